// BullMQ: `node peer_bullmq.mjs work`, or `node peer_bullmq.mjs URL JOBS GAP TAKES` to submit.
import dgram from 'node:dgram';
import { createRequire } from 'node:module';

const require = createRequire(process.env.BENCH_NODE_MODULES + '/');
const { Queue, Worker } = require('bullmq');
const connection = { url: process.env.BENCH_URL, maxRetriesPerRequest: null };
const out = dgram.createSocket('udp4');
const now = () => process.hrtime.bigint();
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const [, , first, jobs, gap, takes] = process.argv;

if (first === 'work') {
  const worker = new Worker('bench', async (job) => {
    out.send(`${job.data.t0} ${now()}`, Number(process.env.BENCH_PORT), '127.0.0.1');
    if (job.data.takes) await sleep(job.data.takes);
    return process.pid;
  }, { connection, concurrency: Number(process.env.BENCH_CONCURRENCY) });
  worker.on('error', () => {}); // it goes on by itself
} else {
  const queue = new Queue('bench', { connection });
  for (let i = 0; i < Number(jobs); i++) {
    const wait = Number(gap) * (0.5 + 1.5 * Math.random());
    if (wait) await sleep(wait);
    await queue.add('clock', { t0: String(now()), takes: Number(takes) });
  }
  await queue.close();
  out.close();
}
