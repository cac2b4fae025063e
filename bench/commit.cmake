# Writes OUTPUT, a header with the commit of SOURCE, and touches it only when that changed.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git describe --always --dirty --exclude=* --abbrev=12
                WORKING_DIRECTORY ${SOURCE}
                OUTPUT_VARIABLE commit RESULT_VARIABLE failed ERROR_QUIET
                OUTPUT_STRIP_TRAILING_WHITESPACE)
if(failed)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT
"// Generated at build time.
#pragma once

inline constexpr const char* kCommit = \"@commit@\";
")
