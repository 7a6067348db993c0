// What the scripts share: cases that run one after the other, each with a bound, and lines that clients_test.py reads.
//     node SCRIPT.js HOST PORT MODE      MODE: plain (one server), cluster (a cluster behind), emulated
//     (the client in its cluster mode)
// With TLS_CA in the environment, the path of an authority's certificate, clients connect under TLS.
'use strict';

const fs = require('node:fs');

const PATIENCE_MS = 20000;

exports.host = process.argv[2];
exports.port = Number(process.argv[3]);
exports.mode = process.argv[4];

// Where to connect, as ioredis and as node-redis have it.
const { host, port } = exports;
const ca = process.env.TLS_CA && fs.readFileSync(process.env.TLS_CA);
exports.address = ca ? { host, port, tls: { ca } } : { host, port };
// Who they are; nobody, if there is no password in the environment.
const { USERNAME: username, PASSWORD: password } = process.env;
exports.auth = password === undefined ? {} : { username: username || undefined, password };
exports.socket = ca ? { host, port, tls: true, ca } : { host, port };

const cases = [];
exports.test = (name, run) => cases.push({ name, run });

exports.sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Until `good()` is true; fails after its bound.
exports.eventually = async (good, what) => {
  const until = Date.now() + PATIENCE_MS;
  while (!(await good())) {
    if (Date.now() > until) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await exports.sleep(20);
  }
};

function bounded(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

exports.run = async () => {
  let failed = 0;
  for (const { name, run } of cases) {
    try {
      await bounded(run());
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`not ok ${name}: ${String(error && error.stack).replace(/\n/g, '\\n')}`);
    }
  }
  console.log(`1..${cases.length}`);
  process.exit(failed === 0 ? 0 : 1);
};
