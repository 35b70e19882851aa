/** Servers that die, hang, are cut off or fill up during a backup. No run succeeds falsely, the container keeps running, the next run is
 *  good, and unfinished uploads are deleted. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { pointsOf } from '../../support/depth.js';
import { makeNetwork } from '../../support/servers/network.js';
import { remoteKinds, startRemote } from '../../support/servers/remotes.js';
import { killedFor, RemoteFaults } from './faults-bench.js';

const { kills } = pointsOf('remote-faults');
// they mostly wait for servers and retries; each has a server and a service of its own
t.jobs = 6;

for (const kind of remoteKinds) {
  t.test(`${kind}: a run survives or fails cleanly when its server is killed, at ${kills} points`, async (t) => {
    const bed = await startRemote(t, kind);
    const faults = await RemoteFaults.open(t, bed);
    const first = await faults.run();
    t.equal(first.result, 0, `undisturbed: ${JSON.stringify(first.error)}`);
    const usual = Number((await faults.run()).duration);
    let survived = 0;
    for (let point = 0; point < kills; point++) {
      const at = Math.round((usual * point) / kills);
      const state = await faults.run(() => killedFor(bed, at, 300, point % 2 === 1));
      if (await faults.check(t, state, `at ${at} of ${usual} ms`)) survived++;
    }
    t.comment(`${survived} of ${kills} runs went on or started over, ${kills - survived} failed`);
    t.ok(survived >= kills / 2, 'most outlive a server that is back at once');
    await faults.recovers(t);
  });

  t.test(`${kind}: a run survives or fails cleanly when its server hangs, is cut off or fills up`, async (t) => {
    const network = await makeNetwork(t);
    const bed = await startRemote(t, kind, { network, size: '256m' });
    const faults = await RemoteFaults.open(t, bed, ['--stall-seconds', '3']);
    t.equal((await faults.run()).result, 0, 'undisturbed');
    const during = (begin: () => Promise<void>, end: () => Promise<void>) => async () => {
      await sleep(1000);
      await begin();
      await sleep(8000);
      await end();
    };
    await faults.check(t, await faults.run(during(bed.pause, bed.resume)), 'SIGSTOP for 8 s');
    await faults.check(t, await faults.run(during(network.cut, network.mend)), 'the cable pulled for 8 s');
    await faults.recovers(t);
    await faults.fill();
    const state = await faults.run();
    t.match(state, { result: -1, error: { code: 'no_space', message: /space/ } }, `full: ${JSON.stringify(state.error)}`);
    await faults.check(t, state, 'a full disk');
    await faults.free();
    await faults.recovers(t);
  });
}
