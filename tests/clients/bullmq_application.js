'use strict';
const assert = require('node:assert/strict');
const { Queue, Worker, QueueEvents, QueueEventsProducer, FlowProducer } = require('bullmq');
const { test, run, eventually, address } = require('./cases.js');

const connection = { ...address, maxRetriesPerRequest: null };
const prefix = '{bull}';

// Until the reader of events is at the stream: it reads from `$`, and what comes before its XREAD does, it never sees.
async function listening(name, events) {
  const producer = new QueueEventsProducer(name, { connection, prefix });
  let heard = false;
  events.once('listening', () => { heard = true; });
  await eventually(async () => {
    if (!heard) await producer.publishEvent({ eventName: 'listening' });
    return heard;
  }, 'the events of a queue are heard');
  await producer.close();
}

async function using(name, process, options, body) {
  const queue = new Queue(name, { connection, prefix });
  await queue.obliterate({ force: true });
  const worker = new Worker(name, process, { connection, prefix, ...options });
  const events = new QueueEvents(name, { connection, prefix });
  for (const part of [queue, worker, events]) part.on('error', () => {});
  await listening(name, events);
  try {
    await body(queue, events, worker);
  } finally {
    await Promise.all([worker.close(true), events.close(), queue.close()]);
  }
}

test('200 jobs are done once each, by ten at a time', async () => {
  const done = [];
  await using('many', async (job) => { done.push(job.data.i); return job.data.i * 2; }, { concurrency: 10 }, async (queue) => {
    await queue.addBulk(Array.from({ length: 200 }, (_, i) => ({ name: 'double', data: { i } })));
    await eventually(async () => (await queue.getCompletedCount()) === 200, '200 jobs');
    assert.deepEqual(done.sort((a, b) => a - b), Array.from({ length: 200 }, (_, i) => i));
  });
});

test('who waits for a job gets its result', () => using('result', async (job) => job.data + 1, {}, async (queue, events) => {
  const job = await queue.add('x', 41);
  assert.equal(await job.waitUntilFinished(events, 15000), 42);
}));

test('a failing job is tried again', () => {
  let tries = 0;
  return using('retry', async () => { tries += 1; if (tries < 3) throw new Error('not yet'); return 'at last'; }, {}, async (queue, events) => {
    const job = await queue.add('x', {}, { attempts: 5, backoff: { type: 'fixed', delay: 100 } });
    assert.equal(await job.waitUntilFinished(events, 15000), 'at last');
    assert.equal(tries, 3);
  });
});

test('delayed jobs come in the order of their delays, priorities first', () => {
  const order = [];
  return using('delay', async (job) => { order.push(job.name); }, {}, async (queue) => {
    await queue.add('late', {}, { delay: 3000 });
    await queue.add('soon', {}, { delay: 100 });
    await eventually(() => order.length === 2, 'two jobs');
    assert.deepEqual(order, ['soon', 'late']);
  });
});

test('a flow: the parent runs behind its children', () => using('flow', async (job) => (job.name === 'parent' ? Object.values(await job.getChildrenValues()) : job.data), {}, async (queue, events) => {
  const flow = new FlowProducer({ connection, prefix });
  const tree = await flow.add({ name: 'parent', queueName: 'flow', children: [1, 2, 3].map((data) => ({ name: 'child', queueName: 'flow', data, prefix })), prefix });
  const values = await tree.job.waitUntilFinished(events, 15000);
  assert.deepEqual(values.sort(), [1, 2, 3]);
  await flow.close();
}));

run();
