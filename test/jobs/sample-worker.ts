/** A worker that reads its behaviour from its job's name: it does what a real worker may do, well or badly. */
import { parentPort, workerData } from 'node:worker_threads';

const port = parentPort;
if (!port) throw new Error('start it as a worker');
const text = JSON.stringify(workerData.task);
const has = (word: string) => text.includes(word);
const end = (message: object) => {
  port.postMessage(message);
  port.close();
};

port.on('message', ({ type, runtime, container }: { type: string; runtime?: string; container?: string }) => {
  if (type === 'stop' && !has('deaf')) end({ type: 'result', result: -2 });
  if (type === 'lease-kept') {
    if (has('die')) process.exit(3); // while the container is paused
    port.postMessage({ type: 'release', runtime: 'lxc', container: 'c1' });
    end({ type: 'result', result: 0, pause_ms: 6, run: `${runtime}/${container}` });
  }
});
if (has('away')) end({ type: 'result', result: -1, error: { code: 'unavailable', message: 'the server is away' }, retryable: true });
if (has('throw')) throw new Error('a bug');
if (has('vanish')) process.exit(0);
if (has('lease')) port.postMessage({ type: 'lease', runtime: 'lxc', container: 'c1', until: Date.now() + 60_000 });
else if (has('quick')) {
  port.postMessage({ type: 'nonsense' });
  for (const progress of [10, 50, 20, 120]) port.postMessage({ type: 'progress', progress });
  end({ type: 'result', result: 0, bytes: 5, run: has('"newBase":true') ? 'base' : 'run' });
}
