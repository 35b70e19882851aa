/** An LXC container with every kind of source, each with files that backups often lose. */
import { appendFile, chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mountEntry, settings } from '../../../plugins/runtimes/lxc/config.js';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import type { Appliance } from '../../support/appliance.js';
import { destroyLxc } from '../../support/lxc.js';
import { changeTree, makeNastyTree } from '../../support/nasty-tree.js';
import { type Places, singleFile } from './bench.js';
import { changeSmallTree, changeTreeAgain, makeSmallTree } from './tree-changes.js';

export interface LxcSubject {
  readonly name: string;
  /** Paths of a container's root and volumes, from its configuration. */
  places(container?: string): Promise<Places>;
  /** Changes all its data, differently the first and the second time. */
  change(round: 1 | 2): Promise<void>;
}

/** Names of the volumes by their mount point. */
const volumes: Readonly<Record<string, string>> = {
  data: 'data',
  'srv/host': 'host',
  'srv/read-only': 'read-only',
  'etc/app.conf': 'file',
};

async function placesOf(lxcPath: string, name: string): Promise<Places> {
  const places: Record<string, string> = { rootfs: join(lxcPath, name, 'rootfs') };
  for (const { key, value } of settings(await readFile(join(lxcPath, name, 'config'), 'utf8'))) {
    const entry = key === 'lxc.mount.entry' ? mountEntry(value) : undefined;
    const volume = entry && volumes[entry.mountpoint];
    if (entry && volume) places[volume] = volume === 'file' ? singleFile(entry.source) : entry.source;
  }
  return places;
}

/** A file whose owner, rights, attributes and times are all unusual. */
export async function makeOddFile(file: string): Promise<void> {
  await writeFile(file, 'the only line\n');
  await childOutput('chown', ['33:44', file]);
  await childOutput('setfattr', ['-n', 'user.single', '-v', '0x00ff', file]);
  await childOutput('setfacl', ['-m', 'u:1234:rw', file]);
  await childOutput('touch', ['-d', '@1234567890.123456789', file]);
}

/** `nasty`: the sources with a whole nasty tree; the others have a small one. */
export async function makeLxcSubject(
  a: Appliance,
  name: string,
  o: { readonly shifted?: boolean; readonly nasty?: readonly string[] } = {},
): Promise<LxcSubject> {
  await chmod(a.folder, 0o755); // a root with shifted ids must reach its mounts
  const of = (what: string) => join(a.folder, `${what}-of-${name}`);
  const file = join(of('file'), 'app.conf');
  await mkdir(of('file'));
  await makeOddFile(file);
  const lines = [
    `lxc.mount.entry = ${of('host')} srv/host none bind,create=dir 0 0`,
    `lxc.mount.entry = ${of('read-only')} srv/read-only none bind,ro,create=dir 0 0`,
    `lxc.mount.entry = ${file} etc/app.conf none bind,create=file 0 0`,
  ];
  await a.lxc(name, { lines, stopped: true, ...(o.shifted && { shifted: true }) });
  const own = join(a.lxcPath, name);
  const folders = {
    rootfs: join(own, 'rootfs/inner'),
    data: join(own, 'volumes/data/inner'),
    host: of('host'),
    'read-only': of('read-only'),
  };
  const nasty = o.nasty ?? ['rootfs', 'data'];
  const trees = Object.entries(folders).map(([source, folder]) => ({ folder, isNasty: nasty.includes(source) }));
  for (const { folder, isNasty } of trees) await (isNasty ? makeNastyTree(folder) : makeSmallTree(folder));
  return {
    name,
    places: (container = name) => placesOf(a.lxcPath, container),
    async change(round) {
      const changeNasty = round === 1 ? changeTree : changeTreeAgain;
      for (const { folder, isNasty } of trees) await (isNasty ? changeNasty(folder) : changeSmallTree(folder, round));
      await appendFile(file, `changed ${round}\n`);
    },
  };
}

/** Removes a clone with its data, so that the next one can have its name. */
export async function dropClone(a: Appliance, subject: LxcSubject, clone: string): Promise<void> {
  const { rootfs: _, ...others } = await subject.places(clone);
  await destroyLxc(a.lxcPath, clone);
  for (const path of Object.values(others)) await rm(path.replace(/:file$/, ''), { recursive: true, force: true });
}
