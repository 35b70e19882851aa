/** Servers that die, hang, are cut off or fill up in the middle of a backup: never a false success, the container runs on, the
 *  next run is good and leftovers are collected. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { remoteKinds, startRemote } from '../support/remotes.js';
import { killedFor, RemoteFaults } from './remote-faults-bench.js';

const points = 20;

for (const kind of remoteKinds) {
  t.test(`${kind}: the server is killed at ${points} points of a run`, async (t) => {
    const bed = await startRemote(t, kind);
    const faults = await RemoteFaults.open(t, bed);
    const first = await faults.run();
    t.equal(first.result, 0, `undisturbed: ${JSON.stringify(first.error)}`);
    const usual = Number((await faults.run()).duration);
    let survived = 0;
    for (let point = 0; point < points; point++) {
      const at = Math.round((usual * point) / points);
      const state = await faults.run(() => killedFor(bed, at, 300, point % 2 === 1));
      if (await faults.check(t, state, `at ${at} of ${usual} ms`)) survived++;
    }
    t.comment(`${survived} of ${points} runs went on or started over, ${points - survived} failed`);
    t.ok(survived >= points / 2, 'most outlive a server that is back at once');
    await faults.recovers(t);
  });

  t.test(`${kind}: a server that hangs longer than the limit, and one that is away for good`, async (t) => {
    const bed = await startRemote(t, kind);
    const faults = await RemoteFaults.open(t, bed, ['--stall-seconds', '3']);
    t.equal((await faults.run()).result, 0);
    const state = await faults.run(async () => {
      await sleep(1200);
      await bed.pause();
      await sleep(9000);
      await bed.resume();
    });
    await faults.check(t, state, 'SIGSTOP for 9 s');
    await faults.recovers(t);
  });
}
