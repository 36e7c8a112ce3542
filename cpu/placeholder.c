typedef int sid2_cpu_placeholder; /* replaced by the first source of this folder */
