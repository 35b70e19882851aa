/** Containers of both engines with the same Debian root: real databases, started by `inside/init.py` as the first process. SQLite and Redis lie
 *  in the root, PostgreSQL and MariaDB in the volume `/data`, so that a copy must be of one moment across sources. */
import { chmod, cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { isBody, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { cachedDebianRoot } from '../../support/debian-root.js';
import { destroyLxc, lxc, startLxc } from '../../support/lxc.js';
import type { Dockerd } from '../../support/servers/dockerd.js';

const program = '/usr/sbin/init';

/** Removed, since the databases run without it: half of the bytes and two thirds of the files. */
const needless = [
  ...['doc', 'man', 'info', 'locale', 'i18n', 'perl*', 'lintian', 'bash-completion', 'zoneinfo/right', 'zoneinfo/posix'].map(
    (path) => `usr/share/${path}`,
  ),
  ...['libLLVM*', 'libz3*', 'perl*', 'libperl*', 'gconv'].map((path) => `usr/lib/*/${path}`),
  ...['usr/lib/postgresql/*/lib/bitcode', 'usr/bin/perl*', 'usr/lib/python3*/test', 'var/lib/dpkg', 'var/lib/apt', 'var/cache/*'],
  'var/lib/mysql/*', // the package makes it, and inside/kinds.py another one
];

const recipe = (all: boolean) => ({
  packages: ['postgresql', 'python3', ...(all ? ['mariadb-server', 'redis-server'] : [])],
  options: [
    '--variant=apt',
    '--essential-hook=mkdir "$1/etc/postgresql-common" && echo create_main_cluster=false >"$1/etc/postgresql-common/createcluster.conf"',
    `--customize-hook=cd "$1" && rm -rf ${needless.join(' ')}`,
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
  /** Name of the volume of a container. */
  volume(name: string): string;
  /** Makes a container, starts it and loads all its databases until it ends. */
  make(name: string, seed: number): Promise<void>;
  /** How many transfers each database has committed. */
  counts(name: string): Promise<AllSaid>;
  /** As counts, after each database has recovered and was checked. */
  audit(name: string): Promise<AllSaid>;
  /** Breaks an invariant of each database, as a proof that an audit finds it. */
  spoil(name: string): Promise<void>;
  /** Removes it with its data. */
  remove(name: string): Promise<void>;
}

/** Unpacks the root of both engines. @param all whether MariaDB and Redis are in it */
export async function makeRoot(folder: string, all: boolean): Promise<string> {
  const root = await mkdtemp(join(folder, 'root-'));
  await chmod(root, 0o755);
  await childOutput('tar', ['--zstd', '--numeric-owner', '-xf', await cachedDebianRoot(recipe(all)), '-C', root, '--exclude=./dev/*']);
  await cp(new URL('../../../../test/system/databases/inside', import.meta.url), join(root, 'opt/inside'), { recursive: true });
  await symlink('/opt/inside/init.py', join(root, program));
  await mkdir(join(root, 'data'));
  return root;
}

type Shell = (name: string, command: string) => Promise<string>;

const machine = (type: Machine['type'], sh: Shell, begin: (name: string) => Promise<void>, remove: Machine['remove']): Machine => ({
  type,
  remove,
  volume: (name) => (type === 'lxc' ? 'data' : `${name}-data`),
  async make(name, seed) {
    await begin(name);
    await sh(name, `${program} fill`);
    await sh(name, `setsid -f ${program} load ${seed} >/tmp/load.log 2>&1 </dev/null`);
  },
  counts: async (name) => parseSaid(await sh(name, `${program} counts`)),
  audit: async (name) => parseSaid(await sh(name, `${program} audit`)),
  spoil: async (name) => void (await sh(name, `${program} spoil`)),
});

export function lxcMachine(a: Appliance, root: string): Machine {
  const begin = async (name: string) => {
    await a.lxc(name, { stopped: true, lines: ['lxc.mount.entry = tmpfs dev/shm tmpfs rw,create=dir 0 0'] });
    const rootfs = join(a.lxcPath, name, 'rootfs');
    await rm(rootfs, { recursive: true });
    await childOutput('cp', ['-a', root, rootfs]);
    await startLxc(a.lxcPath, name);
  };
  const sh: Shell = (name, command) => lxc('attach', a.lxcPath, name, '--', '/bin/sh', '-c', command);
  return machine('lxc', sh, begin, (name) => destroyLxc(a.lxcPath, name));
}

export function dockerMachine(dockerd: Dockerd, root: string): Machine {
  const begin = async (name: string) => {
    await dockerd.importImage(root, 'databases:1');
    const HostConfig = { NetworkMode: 'none', Binds: [`${name}-data:/data`], Tmpfs: { '/tmp': '' } };
    await dockerd.run(name, { Image: 'databases:1', Cmd: [program], StopSignal: 'SIGKILL', HostConfig });
  };
  return machine('docker', dockerd.exec, begin, dockerd.removeContainer);
}
