# Makes a C string of the report's style sheet: cmake -DINPUT=report.css -DOUTPUT=report_css.c -P css.cmake
file(READ ${INPUT} text)
string(REPLACE "\\" "\\\\" text "${text}")
string(REPLACE "\"" "\\\"" text "${text}")
string(REPLACE "\n" "\\n\"\n    \"" text "${text}")
file(WRITE ${OUTPUT} "extern const char report_css[];\nconst char report_css[] =\n    \"${text}\";\n")
