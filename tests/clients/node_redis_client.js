// node-redis as an application uses it, in RESP2 and RESP3: https://github.com/redis/node-redis
'use strict';

const assert = require('node:assert/strict');
const { createClient, createClientPool, defineScript, WatchError } = require('redis');
const { test, run, eventually, auth, socket } = require('./cases.js');

const scripts = {
  addTo: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
    parseCommand(parser, name, amount) {
      parser.pushKey(name);
      parser.push(String(amount));
    },
    transformReply: undefined,
  }),
};

async function using(RESP, body) {
  const client = createClient({ RESP, socket, scripts, ...auth });
  client.on('error', () => {});
  await client.connect();
  try {
    return await body(client);
  } finally {
    client.destroy();
  }
}

for (const RESP of [2, 3]) {
  const key = (name) => `{node-redis-${RESP}}:${name}`;
  const named = (name) => `${name}, RESP${RESP}`;

  test(named('strings, hashes and null'), () => using(RESP, async (redis) => {
    await redis.set(key('s'), 'v', { expiration: { type: 'EX', value: 100 } });
    for (let i = 0; i < 5; i += 1) assert.equal(await redis.get(key('s')), 'v');
    await redis.hSet(key('h'), { a: '1', b: '2' });
    for (let i = 0; i < 5; i += 1) assert.deepEqual({ ...await redis.hGetAll(key('h')) }, { a: '1', b: '2' });
    assert.equal(await redis.get(key('nothing')), null);
  }));

  test(named('a transaction and a watch that fails'), () => using(RESP, (one) => using(RESP, async (other) => {
    assert.deepEqual(await one.multi().set(key('t'), '1').incr(key('t')).get(key('t')).exec(), ['OK', 2, '2']);
    await one.watch(key('t'));
    await other.set(key('t'), '7');
    await assert.rejects(one.multi().incr(key('t')).exec(), WatchError);
    assert.equal(await one.get(key('t')), '7');
  })));

  test(named('Pub/Sub, also of a shard'), () => using(RESP, (publisher) => using(RESP, async (subscriber) => {
    const heard = [];
    await subscriber.subscribe(key('news'), (text) => heard.push(text));
    await subscriber.pSubscribe(`${key('n').replace(/[{}]/g, '?')}*`, (text) => heard.push(`p${text}`));
    await subscriber.sSubscribe(key('shard'), (text) => heard.push(`s${text}`));
    await publisher.publish(key('news'), '1');
    await publisher.sPublish(key('shard'), '2');
    await eventually(() => heard.length >= 3, 'three messages');
    assert.deepEqual(heard.sort(), ['1', 'p1', 's2']);
    await subscriber.unsubscribe();
    await subscriber.pUnsubscribe();
    await subscriber.sUnsubscribe();
    assert.equal(String(await subscriber.ping()), 'PONG');
  })));

  test(named('a blocking pop is woken'), () => using(RESP, (consumer) => using(RESP, async (producer) => {
    const popped = consumer.blPop(key('list'), 10);
    await producer.rPush(key('list'), 'job');
    assert.deepEqual({ ...await popped }, { key: key('list'), element: 'job' });
  })));

  test(named('a script is sent once and then by its hash'), () => using(RESP, async (redis) => {
    await redis.del(key('sum'));
    assert.equal(await redis.addTo(key('sum'), 2), 2);
    assert.equal(await redis.addTo(key('sum'), 3), 5);
  }));

  test(named('an iterator over a hash'), () => using(RESP, async (redis) => {
    await redis.hSet(key('many'), Object.fromEntries(Array.from({ length: 700 }, (_, i) => [`f${i}`, `${i}`])));
    const seen = new Set();
    for await (const entries of redis.hScanIterator(key('many'))) for (const { field } of entries) seen.add(field);
    assert.equal(seen.size, 700);
  }));

  test(named('a stream with a consumer group'), () => using(RESP, (consumer) => using(RESP, async (producer) => {
    await producer.del(key('stream'));
    await producer.xGroupCreate(key('stream'), 'workers', '$', { MKSTREAM: true });
    const waiting = consumer.xReadGroup('workers', 'me', { key: key('stream'), id: '>' }, { COUNT: 1, BLOCK: 10000 });
    const id = await producer.xAdd(key('stream'), '*', { what: 'work' });
    const reply = JSON.stringify(await waiting);
    assert.ok(reply.includes(id) && reply.includes('work'), reply);
    assert.equal(await consumer.xAck(key('stream'), 'workers', id), 1);
  })));

  test(named('it comes back when its connection is killed'), () => using(RESP, async (redis) => {
    await redis.set(key('k'), 'v');
    const again = new Promise((resolve) => redis.once('ready', resolve));
    await redis.sendCommand(['QUIT']).catch(() => {});
    await again;
    assert.equal(await redis.get(key('k')), 'v');
  }));

  test(named('a wrong password is told'), async () => {
    const client = createClient({ RESP, socket: { ...socket, reconnectStrategy: false }, username: 'nobody', password: 'x' });
    client.on('error', () => {});
    await assert.rejects(client.connect(), /WRONGPASS/);
  });

  test(named('a pool of connections'), async () => {
    const pool = createClientPool({ RESP, socket, ...auth }, { maximum: 5 });
    pool.on('error', () => {});
    await pool.connect();
    await pool.del(key('count'));
    await Promise.all(Array.from({ length: 200 }, () => pool.incr(key('count'))));
    assert.equal(await pool.get(key('count')), '200');
    pool.destroy();
  });
}

run();
