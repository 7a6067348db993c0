// node-redis in its cluster mode, which finds the nodes by CLUSTER SLOTS: https://github.com/redis/node-redis
'use strict';

const assert = require('node:assert/strict');
const { createCluster, defineScript } = require('redis');
const { test, run, eventually, socket } = require('./cases.js');

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
  const cluster = createCluster({ RESP, rootNodes: [{ socket }], defaults: { socket }, scripts });
  cluster.on('error', () => {});
  await cluster.connect();
  try {
    return await body(cluster);
  } finally {
    cluster.destroy();
  }
}

for (const RESP of [2, 3]) {
  const key = (name) => `node-redis-cluster-${RESP}:${name}`;
  const named = (name) => `${name}, RESP${RESP}`;

  test(named('it sees one node that serves all slots'), () => using(RESP, async (cluster) => {
    assert.equal(cluster.masters.length, 1);
    for (let i = 0; i < 200; i += 1) await cluster.set(key(i), `${i}`);
    for (let i = 0; i < 200; i += 1) assert.equal(await cluster.get(key(i)), `${i}`);
    const client = await cluster.nodeClient(cluster.masters[0]);
    const seen = new Set();
    for await (const keys of client.scanIterator({ MATCH: key('*') })) keys.forEach((name) => seen.add(name));
    for (let i = 0; i < 200; i += 1) assert.ok(seen.has(key(i)), key(i));
  }));

  test(named('a transaction of one slot'), () => using(RESP, async (cluster) => {
    assert.deepEqual(await cluster.multi().set(key('{t}'), '1').incr(key('{t}')).get(key('{t}')).exec(), ['OK', 2, '2']);
  }));

  test(named('Pub/Sub, also of a shard'), () => using(RESP, (publisher) => using(RESP, async (subscriber) => {
    const heard = [];
    await subscriber.subscribe(key('news'), (text) => heard.push(text));
    await subscriber.sSubscribe(key('shard'), (text) => heard.push(`s${text}`));
    await publisher.publish(key('news'), '1');
    await publisher.sPublish(key('shard'), '2');
    await eventually(() => heard.length >= 2, 'two messages');
    assert.deepEqual(heard.sort(), ['1', 's2']);
    await subscriber.unsubscribe();
    await subscriber.sUnsubscribe(key('shard'));
  })));

  test(named('a script is sent once and then by its hash'), () => using(RESP, async (cluster) => {
    await cluster.del(key('sum'));
    assert.equal(await cluster.addTo(key('sum'), 2), 2);
    assert.equal(await cluster.addTo(key('sum'), 3), 5);
  }));

  test(named('a stream and a blocking read'), () => using(RESP, (consumer) => using(RESP, async (producer) => {
    await producer.del(key('stream'));
    await producer.xAdd(key('stream'), '1-1', { what: 'old' });
    let read;
    consumer.xRead({ key: key('stream'), id: '$' }, { BLOCK: 10000 }).then((reply) => { read = JSON.stringify(reply); });
    await eventually(async () => {
      await producer.xAdd(key('stream'), '*', { what: 'work' });
      return read !== undefined;
    }, 'the reader is woken');
    assert.ok(read.includes('work'), read);
  })));
}

run();
