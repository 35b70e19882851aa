/** A container is never left frozen, even when the programs that freeze and thaw it are killed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import plugin from '../../../plugins/runtimes/lxc/index.js';
import type { Body } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { lxc, startLxc } from '../../support/lxc.js';
import { descendants } from '../bed/process-tree.js';
import { lxcEngine } from '../crash/busy-container.js';

t.jobs = 4; // they mostly wait for containers that do not stop; each has a service of its own

/** An lxc-unfreeze that kills itself as many times as the file says, and then works. */
const suicidal = (file: string): string => `#!/bin/sh
n=$(cat ${file})
if [ "$n" -gt 0 ]; then echo $((n - 1)) >${file}; kill -KILL $$; fi
exec /usr/bin/lxc-unfreeze "$@"
`;

const body = (name: string): Body => ({
  job_name: name,
  container_id: name,
  type: 'lxc',
  dest: { target: 'local', path: '/test/thaw' },
  at: { repeat: 'daily', start: 60 },
  features: ['pause'],
});

for (const { kills, result } of [
  { kills: 1, result: 0 },
  { kills: 7, result: -1 }, // more often than the run tries
]) {
  t.test(`a thaw that is killed ${kills === 1 ? 'once' : `${kills} times`} is repeated`, async (t) => {
    const tools = t.testdir({});
    const left = join(tools, 'left');
    await writeFile(left, '0');
    await writeFile(join(tools, 'lxc-unfreeze'), suicidal(left), { mode: 0o755 });
    const a = await makeAppliance(t, { environment: { PATH: `${tools}:${process.env.PATH}` } });
    await a.lxc('one');
    const id = await a.service.create('backup', body('one'));
    await writeFile(left, `${kills}`);
    await a.service.call('PUT', `/backup/${id}/run`);
    const state = await a.service.settled('backup', id);
    t.equal(await readFile(left, 'utf8'), '0\n', 'it was killed so often');
    t.equal(await lxcEngine(a).state('one'), 'running', 'the container goes on');
    t.match(state, { result }, JSON.stringify(state.error ?? {}));
    t.match(await a.service.backUp(id), { result: 0 }, 'and the next run succeeds');
  });
}

/** An init that ignores a request to stop. lxc-stop waits 30 s before it kills. */
const stubborn = `#!/bin/sh
trap '' PWR TERM INT
while :; do /bin/busybox sleep 1; done
`;

t.test('after a crash a frozen container is resumed at once, before the restore of another is recovered', async (t) => {
  const a = await makeAppliance(t);
  const { state } = lxcEngine(a);
  for (const name of ['slow', 'frozen']) await a.lxc(name, { stopped: true });
  await writeFile(join(a.lxcPath, 'slow/rootfs/sbin/init'), stubborn);
  for (let n = 0; n < 30; n++) await writeFile(join(a.lxcPath, `frozen/volumes/data/${n}`), Buffer.alloc(8 << 20, `${n} `));
  for (const name of ['slow', 'frozen']) await startLxc(a.lxcPath, name);
  const [slow = 0, frozen = 0] = await Promise.all(['slow', 'frozen'].map((name) => a.service.create('backup', body(name))));
  await a.service.backUp(slow);
  const src = { target: 'local', path: '/test/thaw', portfolio: 'slow' };
  await a.service.create('restore', { job_name: 'back', container_id: 'slow', type: 'lxc', src });
  await until(async () => descendants(a.service.pid).some(({ name }) => name === 'lxc-stop'));
  await a.service.call('PUT', `/backup/${frozen}/run`);
  await until(async () => (await state('frozen')) === 'frozen');
  await a.service.kill();
  t.equal(await state('frozen'), 'frozen');
  const began = performance.now();
  const restarted = a.restart();
  await until(async () => (await state('frozen')) === 'running');
  const ms = Math.round(performance.now() - began);
  t.ok(ms < 10_000, `thawed ${ms} ms after the service was started again`);
  await restarted;
  t.equal(await state('slow'), 'running', 'and the other one came back');
});

/** @throws Error after 60 s */
async function until(holds: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 60_000; !(await holds()); await sleep(2)) {
    if (Date.now() > end) throw new Error('it did not come to that within 60 s');
  }
}

t.test('a thaw resumes a container whose freeze was killed half way', async (t) => {
  const a = await makeAppliance(t);
  await a.lxc('one');
  const stateFolder = join(a.folder, 'own');
  await mkdir(stateFolder);
  const { signal } = new AbortController();
  await using runtime = await plugin.open({ log: () => undefined, options: { path: a.lxcPath }, signal, stateFolder });
  let halves = 0;
  for (let tries = 0; halves < 5 && tries < 500; tries++) {
    const freeze = spawn('lxc-freeze', ['-P', a.lxcPath, '-n', 'one'], { stdio: 'ignore' });
    const gone = once(freeze, 'exit');
    await sleep(2 + (tries % 12));
    freeze.kill('SIGKILL');
    await gone;
    const word = await lxc('info', a.lxcPath, 'one', '-sH');
    if (word === 'FREEZING') halves++;
    await runtime.resume('one');
    const after = await lxc('info', a.lxcPath, 'one', '-sH');
    if (after !== 'RUNNING') t.fail(`${word} became ${after}`);
  }
  t.ok(halves > 0, `${halves} freezes were broken off half way`);
});
