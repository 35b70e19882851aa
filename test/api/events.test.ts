/** The event stream: events of jobs in their order, and resuming after the last event that a client got. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { JobsEvent } from '../../core/jobs/job.js';
import { part } from '../support/api-client.js';
import { type Harness, startIn } from './harness.js';

interface Given {
  readonly id: string;
  readonly name: string;
  readonly data: unknown;
}

const job = (id: number): JobsEvent => ({ type: 'job', kind: 'backup', id, code: 'waiting' });

/** Opens the stream as a browser does, and reads it event by event. */
async function follow(t: Test, h: Harness, lastId?: string) {
  const login = await h.ask('POST', '/api/v1/login', 'username=admin&password=correct+horse');
  const cookie = login.headers
    .getSetCookie()
    .map((line) => line.split(';')[0])
    .join('; ');
  const ended = new AbortController();
  t.teardown(() => ended.abort());
  const headers = { cookie, ...(lastId !== undefined && { 'Last-Event-ID': lastId }) };
  const answer = await fetch(`${h.address}/api/v1/events`, { headers, signal: ended.signal });
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  const next = async (): Promise<Given> => {
    for (;;) {
      const [block, ...rest] = text.split('\n\n');
      if (rest.length > 0) {
        text = rest.join('\n\n');
        const [, id = '', name = '', data = ''] = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(block ?? '') ?? [];
        if (name !== '') return { id, name, data: JSON.parse(data) };
        continue;
      }
      const { value, done } = (await reader?.read()) ?? {};
      if (done) throw new Error('the stream ended');
      text += value ?? '';
    }
  };
  return { answer, next, end: () => ended.abort() };
}

t.test('a client gets each event once and in order, and resumes after Last-Event-ID', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  h.publish(job(1)); // before anybody follows
  const first = await follow(t, h);
  t.equal(first.answer.status, 200);
  t.match(first.answer.headers.get('content-type'), /^text\/event-stream/);
  h.publish(job(2));
  h.tell({ id: 2, type: 'backup', progress: 40 });
  const one = await first.next();
  t.match(one, { name: 'job', data: { type: 'job', kind: 'backup', id: 2, code: 'waiting' } }, 'not what came before');
  t.match(await first.next(), { name: 'progress', data: { kind: 'backup', id: 2, progress: 40 } });
  first.end();
  h.publish(job(3));
  const second = await follow(t, h, one.id);
  t.match(await second.next(), { name: 'progress' }, 'the rest, from the event after the last one');
  t.match(await second.next(), { name: 'job', data: { id: 3 } });
});

t.test('a client with an event id that is too old, or of an earlier start, gets a reset', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const old = await follow(t, h, 'another-7');
  t.equal((await old.next()).name, 'reset');
  h.publish(job(1));
  const one = await old.next();
  for (let id = 2; id <= 1_500; id++) h.publish(job(id));
  const late = await follow(t, h, one.id);
  t.equal((await late.next()).name, 'reset');
  h.publish(job(9_999));
  t.match(await late.next(), { name: 'job', data: { id: 9_999 } }, 'and goes on with what comes');
});

t.test('an ended run comes as its row of the history, and a client without a login gets 401', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const stream = await follow(t, h);
  const row = {
    ...({ kind: 'backup', location: { target: 'local', path: '/test/b' }, reason: 'due', result: -1 } as const),
    ...{ id: 4, job: 1, job_name: 'web', type: 'lxc', container: 'web', began: 0, ended: 1_000, attempt: 1 },
    error: { code: 'no_space', message: 'full' },
  };
  h.publish({ type: 'run', row });
  const { data } = await stream.next();
  t.match(data, { type: 'run', id: 1, row: { began_at: '1970-01-01T00:00:00.000Z', error: { code: 'no_space', fix: /\.$/ } } });
  t.equal(part(part(data, 'row'), 'job'), undefined);
  for (const path of ['events', 'events/']) t.equal((await fetch(`${h.address}/api/v1/${path}`)).status, 401, path);
});

t.test('a client that does not read costs bounded memory', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const idle = await follow(t, h);
  const before = process.memoryUsage().rss;
  for (let id = 1; id <= 200_000; id++) {
    h.publish(job(id));
    if (id % 1_000 === 0) await sleep(0);
  }
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  t.ok(grown < 100, `${Math.round(grown)} MiB more after 200,000 events`);
  idle.end();
});
