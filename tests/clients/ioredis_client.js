// ioredis as an application uses it: https://github.com/redis/ioredis
'use strict';

const assert = require('node:assert/strict');
const Redis = require('ioredis');
const { test, run, eventually, address, auth, mode } = require('./cases.js');

const connect = ({ enableAutoPipelining, ...options } = {}) => (mode === 'emulated'
  ? new Redis.Cluster([address], { enableAutoPipelining, shardedSubscribers: true, redisOptions: { ...address, ...options } })
  : new Redis({ ...address, ...auth, enableAutoPipelining, ...options }));
const key = (name) => `{ioredis}:${name}`;

async function using(options, body) {
  const client = connect(options);
  client.on('error', () => {});
  try {
    return await body(client);
  } finally {
    client.disconnect();
  }
}

test('it connects and is ready', () => using({}, async (redis) => {
  assert.equal(await redis.ping(), 'PONG');
  assert.match(await redis.info(), /redis_version/);
}));

test('a hot key is read back, changed and read again', () => using({}, async (redis) => {
  await redis.set(key('hot'), '1');
  for (let i = 0; i < 10; i += 1) assert.equal(await redis.get(key('hot')), '1');
  await redis.set(key('hot'), '2', 'EX', 100);
  assert.equal(await redis.get(key('hot')), '2');
  assert.equal(await redis.getBuffer(key('nothing')), null);
}));

test('a pipeline keeps order and errors', () => using({}, async (redis) => {
  const pipeline = redis.pipeline();
  for (let i = 0; i < 500; i += 1) pipeline.set(key(`p${i}`), i).get(key(`p${i}`));
  pipeline.lpush(key('p1'), 'x');
  const replies = await pipeline.exec();
  assert.equal(replies.length, 1001);
  for (let i = 0; i < 500; i += 1) assert.deepEqual(replies[2 * i + 1], [null, String(i)]);
  assert.match(replies[1000][0].message, /^WRONGTYPE/);
}));

test('automatic pipelining', () => using({ enableAutoPipelining: true }, async (redis) => {
  await Promise.all(Array.from({ length: 200 }, (_, i) => redis.set(key(`a${i}`), i)));
  const got = await Promise.all(Array.from({ length: 200 }, (_, i) => redis.get(key(`a${i}`))));
  assert.deepEqual(got, Array.from({ length: 200 }, (_, i) => String(i)));
}));

test('a transaction in one pipeline, and step by step', () => using({}, async (redis) => {
  const replies = await redis.multi().set(key('t'), 'a').get(key('t')).incr(key('n')).exec();
  assert.deepEqual(replies.slice(0, 2), [[null, 'OK'], [null, 'a']]);
  await redis.multi({ pipeline: false });
  assert.equal(await redis.set(key('t'), 'b'), 'QUEUED');
  assert.deepEqual(await redis.exec(), [[null, 'OK']]);
  assert.equal(await redis.get(key('t')), 'b');
}));

test('WATCH lets one of two writers win', () => using({}, (one) => using({}, async (other) => {
  await one.set(key('w'), '1');
  await one.watch(key('w'));
  assert.equal(await one.get(key('w')), '1');
  await other.set(key('w'), '2');
  assert.equal(await one.multi().set(key('w'), '3').exec(), null);
  assert.equal(await one.get(key('w')), '2');
})));

test('Pub/Sub with patterns', () => using({}, (publisher) => using({}, async (subscriber) => {
  const heard = [];
  subscriber.on('message', (channel, text) => heard.push([channel, text]));
  subscriber.on('pmessage', (pattern, channel, text) => heard.push([pattern, channel, text]));
  assert.equal(await subscriber.subscribe('news', 'sport'), 2);
  assert.equal(await subscriber.psubscribe('n?ws'), 3);
  // A cluster's node counts its own subscribers only.
  assert.ok(await publisher.publish('news', 'hello') >= (mode === 'plain' ? 1 : 0));
  await eventually(() => heard.length === 2, 'two messages');
  assert.deepEqual(heard, [['news', 'hello'], ['n?ws', 'news', 'hello']]);
  assert.equal(await subscriber.unsubscribe('news', 'sport'), 1);
  assert.equal(await subscriber.punsubscribe('n?ws'), 0);
  assert.equal(await subscriber.set(key('after'), '1'), 'OK');
})));

test('a blocking pop is woken', () => using({}, (consumer) => using({}, async (producer) => {
  const popped = consumer.blpop(key('list'), 10);
  await producer.rpush(key('list'), 'job');
  assert.deepEqual(await popped, [key('list'), 'job']);
  assert.equal(await consumer.brpop(key('list'), 0.05), null);
})));

test('a script is sent once and then by its hash', () => using({}, async (redis) => {
  redis.defineCommand('addTo', { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  await redis.del(key('sum'));
  assert.equal(await redis.addTo(key('sum'), 2), 2);
  assert.equal(await redis.addTo(key('sum'), 3), 5);
  assert.equal(await redis.get(key('sum')), '5');
  await redis.script('FLUSH');
  assert.equal(await redis.addTo(key('sum'), 1), 6);
}));

test('iterators over a hash, a set and a sorted set', () => using({}, async (redis) => {
  const fields = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`f${i}`, i]));
  await redis.hset(key('hash'), fields);
  await redis.sadd(key('set'), ...Object.keys(fields));
  const seen = new Set();
  for await (const chunk of redis.hscanStream(key('hash'))) for (let i = 0; i < chunk.length; i += 2) seen.add(chunk[i]);
  assert.equal(seen.size, 1000);
  let members = 0;
  for await (const chunk of redis.sscanStream(key('set'), { count: 100 })) members += chunk.length;
  assert.equal(members, 1000);
}));

test('a stream with a consumer group', () => using({}, (consumer) => using({}, async (producer) => {
  const stream = key('stream');
  await producer.del(stream);
  await producer.xgroup('CREATE', stream, 'workers', '$', 'MKSTREAM');
  const waiting = consumer.xreadgroup('GROUP', 'workers', 'me', 'COUNT', 10, 'BLOCK', 10000, 'STREAMS', stream, '>');
  const id = await producer.xadd(stream, '*', 'what', 'work');
  assert.deepEqual(await waiting, [[stream, [[id, ['what', 'work']]]]]);
  assert.equal(await consumer.xack(stream, 'workers', id), 1);
  assert.equal((await producer.xinfo('GROUPS', stream)).length, 1);
})));

test('it comes back when its connection is killed', () => using({}, async (redis) => {
  await redis.set(key('k'), 'v');
  for (const connection of mode === 'emulated' ? redis.nodes('all') : [redis]) connection.stream.destroy();
  assert.equal(await redis.get(key('k')), 'v');
}));

test('binary values of a megabyte', () => using({}, async (redis) => {
  const value = Buffer.alloc(1 << 20, '\r\n\0\xff$');
  await redis.set(key('big'), value);
  for (let i = 0; i < 3; i += 1) assert.ok(value.equals(await redis.getBuffer(key('big'))));
}));

if (mode === 'emulated') {
  test('it sees one node, and scans all keys there', () => using({}, async (redis) => {
    await redis.get(key('ready'));
    const nodes = redis.nodes('master');
    assert.equal(nodes.length, 1);
    for (let i = 0; i < 300; i += 1) await redis.set(`ioredis:scanned:${i}`, i);
    const seen = new Set();
    for await (const keys of nodes[0].scanStream({ match: 'ioredis:scanned:*' })) keys.forEach((name) => seen.add(name));
    assert.equal(seen.size, 300);
  }));

  test('messages of a shard', () => using({}, (publisher) => using({}, async (subscriber) => {
    const heard = [];
    subscriber.on('smessage', (channel, text) => heard.push([channel, text]));
    await subscriber.ssubscribe(key('shard'));
    await publisher.spublish(key('shard'), 'hello');
    await eventually(() => heard.length === 1, 'a message');
    assert.deepEqual(heard, [[key('shard'), 'hello']]);
  })));
}

if (mode !== 'emulated') {
  test('a wrong password is told', () => using({ username: 'nobody', password: 'x', maxRetriesPerRequest: 0 }, async (redis) => {
    const told = new Promise((resolve) => redis.on('error', (error) => /WRONGPASS/.test(String(error)) && resolve()));
    const sent = redis.ping().catch(() => {});
    await told;
    redis.disconnect();
    await sent;
  }));
}

run();
