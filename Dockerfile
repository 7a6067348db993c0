# Two stages: compilers stay behind, the image holds the daemon, its shared libraries and nothing to configure it:
#     docker build -t nearcached .
#     docker run --rm -p 6380:6380 nearcached --listen 0.0.0.0:6380 --upstream redis+cluster://10.0.0.1:6379
FROM debian:12 AS build
WORKDIR /src
COPY deploy/packages.sh deploy/packages.txt deploy/
RUN deploy/packages.sh build
COPY . .
RUN cmake --preset release -DNEARCACHED_TESTS=OFF -DNEARCACHED_LOADTEST=OFF \
 && cmake --build build/release --target nearcached \
 && strip --strip-debug build/release/nearcached

FROM debian:12-slim
COPY deploy/packages.sh deploy/packages.txt /tmp/deploy/
RUN /tmp/deploy/packages.sh runtime \
 && rm -rf /tmp/deploy /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt
COPY --from=build /src/build/release/nearcached /usr/local/bin/nearcached
COPY LICENSE /usr/share/doc/nearcached/copyright
# Numeric, so that Kubernetes can see that it is not root.
USER 65532:65532
# Clients, admin. In a pod clients come over loopback; on 127.0.0.1 they are alone with the sidecar.
EXPOSE 6380 9180
ENTRYPOINT ["/usr/local/bin/nearcached"]
