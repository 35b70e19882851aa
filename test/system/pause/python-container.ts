/** Containers that run the host's Python. A writer that a pause should freeze must run inside its container. */
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Appliance } from '../../support/appliance.js';
import { lxc, startLxc } from '../../support/lxc.js';

const python = '/usr/bin/python3';

/** Mounts the host's /usr. It is a system folder, so a backup leaves it out. */
const lines = ['lxc.mount.entry = /usr usr none bind,ro,create=dir 0 0'];

/** Runs the program only in the container with the first name. A clone does nothing, so that a test can read it. */
const init = (name: string): string => `#!/bin/sh
trap 'exit 0' PWR TERM INT
[ "$(/bin/busybox hostname)" = ${name} ] && ${python} -E -s -B /program.py >/tmp/said 2>&1 &
while :; do /bin/busybox sleep 1 & wait $!; done
`;

export interface PythonContainer {
  readonly name: string;
  /** Its volume /data on the host. */
  readonly data: string;
  /** State by lxc-info: RUNNING, FROZEN or STOPPED. */
  state(): Promise<string>;
  /** A file of its /tmp, which lies in memory and is in no backup. */
  temporary(file: string): Promise<string>;
  /** Runs busybox inside it and waits for its end. */
  busybox(...args: string[]): Promise<void>;
}

/** Makes and starts a container that runs `program`. `fill` fills its volume first. */
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

/** Waits until the condition is true. @throws Error that names the condition */
export async function until(what: string, holds: () => Promise<boolean>, limitMs = 20_000): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${limitMs / 1000} s`);
    await sleep(5);
  }
}
