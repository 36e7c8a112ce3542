# Writes the .ini files as C strings, a table of sid2_text_row (core/text.h) that ends with an empty row:
#     cmake -DFILES=... -DTABLE=... -DOUTPUT=... -P texts.cmake
set(code "#include \"text.h\"\n\n")
set(rows "")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  string(MAKE_C_IDENTIFIER ${name} symbol)
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND code "static const char ${symbol}[] = {${bytes}0};\n")
  string(APPEND rows "    {\"${name}\", ${symbol}},\n")
endforeach()
file(WRITE ${OUTPUT} "${code}\nextern const sid2_text_row ${TABLE}[];\nconst sid2_text_row ${TABLE}[] = {\n${rows}    {0},\n};\n")
