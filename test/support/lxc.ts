import { execFile } from 'node:child_process';
import { appendFile, chmod, chown, copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const init = `#!/bin/sh
trap 'exit 0' PWR TERM INT
while :; do /bin/busybox sleep 1 & wait $!; done
`;

/** Makes a new, empty LXC path. Containers with shifted ids can reach it, too. */
export async function makeLxcPath(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'lxc-'));
  await chmod(path, 0o755);
  return path;
}

/** Runs one LXC tool. The path must be absolute: with a relative one, every container seems to be stopped. */
export async function lxc(tool: string, path: string, name: string, ...args: string[]): Promise<string> {
  return (await run(`lxc-${tool}`, ['-P', path, '-n', name, ...args], { cwd: '/' })).stdout.trim();
}

/** newuidmap reads these files even for root. */
async function allowShiftedRoot(): Promise<void> {
  for (const file of ['/etc/subuid', '/etc/subgid']) {
    const text = await readFile(file, 'utf8').catch(() => '');
    if (!text.includes('root:100000:65536')) await appendFile(file, 'root:100000:65536\n');
  }
}

async function makeRoot(root: string): Promise<void> {
  for (const folder of ['bin', 'sbin', 'dev', 'proc', 'sys', 'etc', 'tmp', 'data']) await mkdir(join(root, folder), { recursive: true });
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  await chmod(join(root, 'bin/busybox'), 0o755);
  await symlink('busybox', join(root, 'bin/sh'));
  await writeFile(join(root, 'sbin/init'), init, { mode: 0o755 });
  await writeFile(join(root, 'etc/machine-id'), '0123456789abcdef0123456789abcdef\n');
  await writeFile(join(root, 'etc/hostname'), 'original\n');
}

/** Makes a busybox container and does not start it. Its network is connected to nothing, and its volume `volumes/data` is at /data.
 *  `lines` are added to its configuration. */
export async function makeLxcContainer(
  path: string,
  name: string,
  o: { readonly shifted?: boolean; readonly lines?: readonly string[] } = {},
): Promise<void> {
  const folder = join(path, name);
  await makeRoot(join(folder, 'rootfs'));
  await mkdir(join(folder, 'volumes/data'), { recursive: true });
  await writeFile(join(folder, 'volumes/data/file'), `data of ${name}\n`);
  const lines = [
    '# made by hand: keep this comment',
    `lxc.rootfs.path   =  dir:${folder}/rootfs`,
    `lxc.uts.name = ${name}`,
    'lxc.net.0.type = veth', // linked to nothing: needs no bridge
    'lxc.net.0.hwaddr = 00:16:3e:01:02:03',
    'lxc.mount.auto = proc:mixed sys:ro',
    'lxc.mount.entry = tmpfs tmp tmpfs rw 0 0',
    `lxc.mount.entry = ${folder}/volumes/data data none bind,create=dir 0 0`,
    ...(o.shifted ? ['lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'] : []),
    ...(o.lines ?? []),
  ];
  await writeFile(join(folder, 'config'), `${lines.join('\n')}\n`);
  if (!o.shifted) return;
  await allowShiftedRoot();
  await run('chown', ['-hR', '100000:100000', join(folder, 'rootfs'), join(folder, 'volumes')]);
  await chown(folder, 0, 0);
}

export async function startLxc(path: string, name: string): Promise<void> {
  await lxc('start', path, name);
}

export async function stopLxc(path: string, name: string): Promise<void> {
  await lxc('stop', path, name, '-k').catch(() => undefined); // it may be stopped already
}

/** Stops and removes it; absent is fine. */
export async function destroyLxc(path: string, name: string): Promise<void> {
  await stopLxc(path, name);
  await rm(join(path, name), { force: true, recursive: true });
}
