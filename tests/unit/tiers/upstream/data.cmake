nearcached_test(upstream_data_test LABEL unit
  SOURCES greeting_test.cpp identity_test.cpp pinned_pool_test.cpp redirect_test.cpp script_book_test.cpp
  LIBRARIES nearcached_upstream)
