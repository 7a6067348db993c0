nearcached_test(control_plane LABEL redis
  SOURCES control_plane_test.cpp control_servers.cpp
  LIBRARIES nearcached_control Threads::Threads)

# The same against servers that misbehave on cue; needs none installed.
nearcached_test(control_plane_scripted LABEL mock
  SOURCES control_plane_scripted_test.cpp control_servers.cpp
  LIBRARIES nearcached_control Threads::Threads)
