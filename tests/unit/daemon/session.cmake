nearcached_test(session_parts_test LABEL unit
  SOURCES gather_test.cpp
  LIBRARIES nearcached_daemon)
