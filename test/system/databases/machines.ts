/** Containers of both engines with the same Debian root: real databases, started by `inside.py` as the first process. SQLite and Redis lie
 *  in the root, PostgreSQL and MariaDB in the volume `/data`, so that a copy must be of one moment across sources. */
import { chmod, copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { isBody, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { cachedDebianRoot } from '../../support/debian-root.js';
import { destroyLxc, lxc, startLxc } from '../../support/lxc.js';
import type { Dockerd } from '../../support/servers/dockerd.js';

const program = '/usr/sbin/init';

/** What a suite does not need, a third of the bytes: the compiler of PostgreSQL's queries, and texts. */
const leftOut = ['doc/*', 'man/*', 'info/*', 'locale/*', 'i18n/locales/*'].map((path) => `/usr/share/${path}`);
const compiler = ['/usr/lib/*/libLLVM*', '/usr/lib/*/libz3*', '/usr/lib/postgresql/*/lib/bitcode/*'];

const recipe = (all: boolean) => ({
  packages: ['postgresql', 'python3', ...(all ? ['mariadb-server', 'redis-server'] : [])],
  options: [
    '--variant=apt',
    ...[...leftOut, ...compiler].map((path) => `--dpkgopt=path-exclude=${path}`),
    '--essential-hook=mkdir "$1/etc/postgresql-common" && echo create_main_cluster=false >"$1/etc/postgresql-common/createcluster.conf"',
    '--customize-hook=rm -rf "$1"/var/lib/mysql/* "$1"/var/lib/apt "$1"/var/cache/*',
  ],
});

/** What one database says: transfers that it has committed, and what it could hold at no single moment. */
export interface Said {
  readonly count: number;
  readonly problems: readonly string[];
}
export type AllSaid = Readonly<Record<string, Said>>;

function parseSaid(text: string): AllSaid {
  const said: unknown = JSON.parse(text);
  if (!isBody(said)) throw new Error(`no databases: ${text}`);
  const all = Object.entries(said).map(([name, one]): [string, Said] => {
    const problems = part(one, 'problems');
    return [name, { count: Number(part(one, 'count')), problems: Array.isArray(problems) ? problems.map(String) : ['none said'] }];
  });
  return Object.fromEntries(all);
}

export interface Machine {
  readonly type: 'lxc' | 'docker';
  /** Makes a container, starts it and loads all its databases until it ends. */
  make(name: string, seed: number): Promise<void>;
  /** How many transfers each database has committed. */
  counts(name: string): Promise<AllSaid>;
  /** As counts, after each database has recovered and was checked. */
  audit(name: string): Promise<AllSaid>;
  /** Removes it with its data. */
  remove(name: string): Promise<void>;
}

/** Unpacks the root for an engine. */
async function makeRoot(folder: string, all: boolean): Promise<string> {
  const root = await mkdtemp(join(folder, 'root-'));
  await chmod(root, 0o755);
  await childOutput('tar', ['--zstd', '--numeric-owner', '-xf', await cachedDebianRoot(recipe(all)), '-C', root, '--exclude=./dev/*']);
  await copyFile(new URL('../../../../test/system/databases/inside.py', import.meta.url), join(root, program));
  await chmod(join(root, program), 0o755);
  await mkdir(join(root, 'data'));
  return root;
}

type Shell = (name: string, command: string) => Promise<string>;

const machine = (type: Machine['type'], sh: Shell, begin: (name: string) => Promise<void>, remove: Machine['remove']): Machine => ({
  type,
  remove,
  async make(name, seed) {
    await begin(name);
    await sh(name, `${program} fill`);
    await sh(name, `setsid -f ${program} load ${seed} >/tmp/load.log 2>&1 </dev/null`);
  },
  counts: async (name) => parseSaid(await sh(name, `${program} counts`)),
  audit: async (name) => parseSaid(await sh(name, `${program} audit`)),
});

export async function lxcMachine(a: Appliance, all: boolean): Promise<Machine> {
  const begin = async (name: string) => {
    await a.lxc(name, { stopped: true, lines: ['lxc.mount.entry = tmpfs dev/shm tmpfs rw,create=dir 0 0'] });
    const rootfs = join(a.lxcPath, name, 'rootfs');
    await rm(rootfs, { recursive: true });
    await rename(await makeRoot(a.lxcPath, all), rootfs);
    await startLxc(a.lxcPath, name);
  };
  const sh: Shell = (name, command) => lxc('attach', a.lxcPath, name, '--', '/bin/sh', '-c', command);
  return machine('lxc', sh, begin, (name) => destroyLxc(a.lxcPath, name));
}

export async function dockerMachine(a: Appliance, dockerd: Dockerd, all: boolean): Promise<Machine> {
  const root = await makeRoot(a.folder, all);
  await dockerd.importImage(root, 'databases:1');
  await rm(root, { recursive: true });
  const begin = async (name: string) => {
    const HostConfig = { NetworkMode: 'none', Binds: [`${name}-data:/data`], Tmpfs: { '/tmp': '' } };
    await dockerd.run(name, { Image: 'databases:1', Cmd: [program], StopSignal: 'SIGKILL', HostConfig });
  };
  return machine('docker', dockerd.exec, begin, dockerd.removeContainer);
}
