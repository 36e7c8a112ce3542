typedef int sid2_model_placeholder; /* replaced by the first source of this folder */
