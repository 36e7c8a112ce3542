typedef int sid2_data_placeholder; /* replaced by the first source of this folder */
