nearcached_test(upstream_data_test LABEL unit
  SOURCES identity_test.cpp redirect_test.cpp
  LIBRARIES nearcached_upstream)
