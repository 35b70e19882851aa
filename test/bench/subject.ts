/** The container that every tool backs up: a real Debian root of about 1 GiB, and a volume of 100,000 small files. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeDebianRoot } from '../support/debian-root.js';
import { destroyLxc, lxc, stopLxc } from '../support/lxc.js';
import { changeSmallFiles, filesPerFolder, folderCount, makeSmallFiles } from './small-files.js';

const run = promisify(execFile);

/** Packages of about 1 GiB: a compiler, a debugger, languages, a database and a web server. */
const packages = [
  ...['build-essential', 'cmake', 'curl', 'gdb', 'git', 'less', 'locales', 'man-db', 'manpages-dev', 'mariadb-server'],
  ...['nginx-light', 'openssh-server', 'php-cli', 'python3-dev', 'python3-numpy', 'rsync', 'ruby', 'sqlite3', 'vim'],
];
/** Version of the recipe of the small files. */
const smallFilesVersion = 1;

/** What a restored folder must hold. */
export interface Contents {
  readonly entries: number;
  readonly bytes: number;
  /** Hash over names, types, modes, owners, sizes and times. Other suites compare the files' bytes. */
  readonly hash: string;
}

export async function contentsOf(folder: string): Promise<Contents> {
  const format = '%P\\t%y\\t%m\\t%U:%G\\t%s\\t%T@\\n';
  const { stdout } = await run('find', [folder, '-mindepth', '1', '-printf', format], { maxBuffer: 1 << 28 });
  const lines = stdout.trimEnd().split('\n').sort();
  let bytes = 0;
  const hash = createHash('sha256');
  for (const line of lines) {
    const [name = '', type = '', mode = '', owner = '', size = '', time = ''] = line.split('\t');
    const isFile = type === 'f';
    if (isFile) bytes += Number(size);
    hash.update([name, type, mode, owner, isFile ? size : '', isFile ? time : ''].join('\t'));
  }
  return { entries: lines.length, bytes, hash: hash.digest('hex') };
}

/** Makes `folder`, unless it was made by the same recipe. `make` fills a new folder, which is renamed when it is complete. */
async function cached(folder: string, recipe: string, make: (fresh: string) => Promise<void>): Promise<void> {
  if ((await readFile(`${folder}.recipe`, 'utf8').catch(() => '')) === recipe) return;
  const fresh = `${folder}.new`;
  for (const old of [`${folder}.recipe`, folder, fresh]) await rm(old, { recursive: true, force: true });
  await make(fresh);
  await rename(fresh, folder);
  await writeFile(`${folder}.recipe`, recipe);
}

export class BenchSubject implements AsyncDisposable {
  readonly name = 'bench';
  /** Names of the container's parts below `folder`. */
  readonly parts = ['rootfs', 'volumes/data'] as const;
  readonly folder: string;
  readonly root: string;
  readonly data: string;

  constructor(
    readonly lxcPath: string,
    private readonly say: (text: string) => void,
  ) {
    this.folder = join(lxcPath, this.name);
    this.root = join(this.folder, this.parts[0]);
    this.data = join(this.folder, this.parts[1]);
  }

  /** Makes what is missing, resets the small files to version 0, and starts the container. */
  async start(rounds: number): Promise<void> {
    await stopLxc(this.lxcPath, this.name); // left by a killed bench
    await mkdir(join(this.folder, 'volumes'), { recursive: true });
    await chmod(this.lxcPath, 0o755);
    await cached(this.root, packages.join(' '), (fresh) => {
      this.say('making the root file system; it is kept for the next time, and takes about a minute');
      return makeDebianRoot(fresh, { packages, options: ['--variant=minbase'] });
    });
    await cached(this.data, `${folderCount} ${filesPerFolder} ${smallFilesVersion}`, (fresh) => {
      this.say(`making ${folderCount * filesPerFolder} small files`);
      return makeSmallFiles(fresh);
    });
    for (let round = 1; round <= rounds; round++) await changeSmallFiles(this.data, round, 0);
    await writeFile(join(this.folder, 'config'), this.#config());
    await lxc('start', this.lxcPath, this.name);
  }

  /** Starts the container. It does nothing, so that the figures are those of the tools. */
  #config(): string {
    const lines = [
      `lxc.rootfs.path = dir:${this.root}`,
      `lxc.uts.name = ${this.name}`,
      'lxc.net.0.type = empty',
      'lxc.init.cmd = /bin/sleep infinity',
      `lxc.mount.entry = ${this.data} srv/data none bind,create=dir 0 0`,
    ];
    return `${lines.join('\n')}\n`;
  }

  /** Reads all files, so that they are in the page cache for every tool. */
  async warm(): Promise<void> {
    await run('sh', ['-c', 'tar -cf - -- "$@" | cat >/dev/null', 'sh', ...this.parts], { cwd: this.folder });
  }

  change(round: number): Promise<number> {
    return changeSmallFiles(this.data, round, round);
  }

  /** Removes all other containers of the LXC path: restored ones, and parts of them. @returns whether there were any */
  async removeCopies(): Promise<boolean> {
    const others = (await readdir(this.lxcPath).catch(() => [])).filter((name) => name !== this.name);
    for (const name of others) await destroyLxc(this.lxcPath, name);
    return others.length > 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stopLxc(this.lxcPath, this.name);
  }
}
