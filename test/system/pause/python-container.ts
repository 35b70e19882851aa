/** Containers that run the host's Python. A writer that a pause should freeze must run inside its container. */
import { execFile } from 'node:child_process';
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Appliance } from '../../support/appliance.js';
import { lxc, startLxc } from '../../support/lxc.js';

const run = promisify(execFile);
const python = '/usr/bin/python3';

/** The host's /usr is a system folder, so that no backup holds it. */
const lines = ['lxc.mount.entry = /usr usr none bind,ro,create=dir 0 0'];

/** The program runs under the container's first name only: a clone holds still, to be looked at. */
const init = (name: string): string => `#!/bin/sh
trap 'exit 0' PWR TERM INT
[ "$(/bin/busybox hostname)" = ${name} ] && ${python} -E -s -B /program.py >/tmp/said 2>&1 &
while :; do /bin/busybox sleep 1 & wait $!; done
`;

export interface PythonContainer {
  readonly name: string;
  /** Its volume /data on the host. */
  readonly data: string;
  /** What lxc-info says: RUNNING, FROZEN or STOPPED. */
  state(): Promise<string>;
  /** A file of its /tmp, which no backup holds and which lies on no disk. */
  temporary(file: string): Promise<string>;
  /** Runs busybox inside it, to its end. */
  busybox(...args: string[]): Promise<void>;
}

/** Makes and starts a container that runs `program`; `fill` puts things into its volume before that. */
export async function makePythonContainer(
  appliance: Appliance,
  name: string,
  program: string,
  fill: (data: string) => Promise<void> = async () => undefined,
): Promise<PythonContainer> {
  const { lxcPath } = appliance;
  const folder = join(lxcPath, name);
  const data = join(folder, 'volumes/data');
  await appliance.lxc(name, { lines, stopped: true });
  for (const link of ['lib', 'lib64']) await symlink(`usr/${link}`, join(folder, 'rootfs', link));
  await writeFile(join(folder, 'rootfs/program.py'), program);
  await writeFile(join(folder, 'rootfs/sbin/init'), init(name), { mode: 0o755 });
  await fill(data);
  await startLxc(lxcPath, name);
  const pid = await lxc('info', lxcPath, name, '-pH');
  return {
    name,
    data,
    state: () => lxc('info', lxcPath, name, '-sH'),
    temporary: (file) => readFile(`/proc/${pid}/root/tmp/${file}`, 'utf8'),
    async busybox(...args) {
      await lxc('attach', lxcPath, name, '--', '/bin/busybox', ...args);
    },
  };
}

/** Runs Python on the host and gives the JSON that it prints. */
export async function hostPython(program: string, ...args: string[]): Promise<unknown> {
  const { stdout } = await run(python, ['-E', '-s', '-B', '-c', program, ...args]);
  return JSON.parse(stdout);
}

/** Waits until it holds. @throws Error naming what was waited for */
export async function until(what: string, holds: () => Promise<boolean>, limitMs = 20_000): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${limitMs / 1000} s`);
    await sleep(5);
  }
}
