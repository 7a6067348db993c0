// A web application's use of Redis: express-session with connect-redis, and rate-limiter-flexible.
'use strict';

const assert = require('node:assert/strict');
const http = require('node:http');
const session = require('express-session');
const { RedisStore } = require('connect-redis');
const { RateLimiterRedis } = require('rate-limiter-flexible');
const { createClient } = require('redis');
const Redis = require('ioredis');
const { test, run, eventually, address, socket } = require('./cases.js');

async function using(body) {
  const client = createClient({ socket });
  client.on('error', () => {});
  await client.connect();
  try {
    return await body(client);
  } finally {
    client.destroy();
  }
}

// A server whose every page counts the views of its session; /leave ends it.
async function serve(store, body) {
  const middleware = session({ store, secret: 'secret', resave: false, saveUninitialized: false });
  const server = http.createServer((request, response) => middleware(request, response, () => {
    if (request.url === '/leave') {
      request.session.destroy(() => response.end('gone'));
      return;
    }
    request.session.views = (request.session.views || 0) + 1;
    response.end(String(request.session.views));
  }));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await body(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('a session lives in the store from request to request', () => using((client) => {
  const store = new RedisStore({ client, prefix: 'session:' });
  return serve(store, async (url) => {
    const first = await fetch(url);
    const headers = { cookie: first.headers.get('set-cookie').split(';')[0] };
    assert.equal(await first.text(), '1');
    for (let views = 2; views <= 6; views += 1) assert.equal(await (await fetch(url, { headers })).text(), String(views));
    assert.equal(await (await fetch(`${url}/leave`, { headers })).text(), 'gone');
    assert.equal(await (await fetch(url, { headers })).text(), '1');
  });
}));

test('a session store lists, counts and clears', () => using(async (client) => {
  const store = new RedisStore({ client, prefix: 'stored:' });
  for (let i = 0; i < 20; i += 1) await store.set(`id${i}`, { cookie: { originalMaxAge: 60000 }, i });
  assert.equal((await store.get('id3')).i, 3);
  assert.equal(await store.length(), 20);
  assert.equal((await store.all()).length, 20);
  await store.destroy('id3');
  assert.equal(await store.get('id3'), null);
  await store.clear();
  assert.equal(await store.length(), 0);
}));

test('a rate limiter lets through what it should and blocks the rest', async () => {
  const storeClient = new Redis({ ...address, enableOfflineQueue: false, lazyConnect: true });
  await storeClient.connect();
  const limiter = new RateLimiterRedis({ storeClient, keyPrefix: 'limit', points: 5, duration: 3 });
  await limiter.delete('1.2.3.4');
  for (let i = 4; i >= 0; i -= 1) assert.equal((await limiter.consume('1.2.3.4')).remainingPoints, i);
  await assert.rejects(limiter.consume('1.2.3.4'), (refusal) => refusal.msBeforeNext > 0);
  await eventually(async () => (await limiter.get('1.2.3.4')) === null, 'the three seconds are over');
  assert.equal((await limiter.consume('1.2.3.4')).remainingPoints, 4);
  storeClient.disconnect();
});

run();
