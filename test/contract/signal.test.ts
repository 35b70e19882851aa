/** Combined abort signals under constant garbage collection, as in a service that runs for months. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { anySignal } from '../../core/contract/index.js';

setFlagsFromString('--expose-gc');
const gc: unknown = runInNewContext('gc');

function collect(): void {
  if (typeof gc !== 'function') throw new Error('garbage cannot be collected here');
  gc();
}

async function collecting(ms: number): Promise<void> {
  for (const until = Date.now() + ms; Date.now() < until; await sleep(20)) collect();
}

const never = new AbortController().signal;
/** Nobody but the combined signal knows the one that has the limit. */
const limited = (): AbortSignal => anySignal(never, AbortSignal.timeout(200));

t.test('a combined timeout fires although garbage is collected before it', async (t) => {
  let told = 0;
  const tell = (): void => {
    told++;
  };
  limited().addEventListener('abort', tell, { once: true });
  anySignal(never, limited()).addEventListener('abort', tell, { once: true });
  const asked = limited();
  await collecting(400);
  t.equal(told, 2, 'both who wait are told');
  t.ok(asked.aborted, 'and whoever asks');
  t.match(asked.reason, { name: 'TimeoutError' });
});

t.test('a combined signal aborts although its controller is collected', async (t) => {
  const abortedSoon = (): AbortSignal => {
    const own = new AbortController();
    setTimeout(() => own.abort('the client has gone'), 50);
    return anySignal(never, anySignal(own.signal));
  };
  const signal = abortedSoon();
  await collecting(200);
  t.ok(signal.aborted);
  t.equal(signal.reason, 'the client has gone');
});

t.test('a combined signal of an aborted one is aborted', async (t) => {
  t.ok(anySignal(never, AbortSignal.abort()).aborted);
  t.notOk(anySignal(never, new AbortController().signal).aborted);
});
