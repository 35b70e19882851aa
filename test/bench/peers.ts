/** The other tools: a pipe of tar and zstd, restic, borg. */
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Contender, Running } from './contender.js';
import type { Phase } from './figures.js';
import { versionOf } from './machine.js';
import { endedChildrenSeconds } from './processes.js';

export interface PeerFolders {
  /** Folder with the parts. The commands run in it. */
  readonly subject: string;
  readonly parts: readonly string[];
  /** Each peer gets a folder in it. */
  readonly work: string;
}

/** Lines of bash, with the variables $PARTS, $DEST, $OUT and $CACHE. */
interface Recipe {
  readonly name: string;
  readonly version: () => Promise<string>;
  readonly begin?: string;
  readonly prepare?: Partial<Readonly<Record<Phase, string>>>;
  readonly steps: Readonly<Record<Phase, string>>;
  readonly restoresLatest: boolean;
  readonly environment?: (cache: string) => Readonly<Record<string, string>>;
}

/** The flags of tar that a container needs: without them, a restore would lose attributes. They cost a few per cent. */
const flags = "--xattrs --xattrs-include='*' --acls --sparse --numeric-owner --one-file-system --format=posix";
const level = (name: string): string =>
  `cp $CACHE/base.snar $CACHE/${name}.snar && ` +
  `tar ${flags} --listed-incremental=$CACHE/${name}.snar -cf - $PARTS | zstd -3 -T0 -q -o $DEST/${name}.tar.zst`;

const tar: Recipe = {
  name: 'tar | zstd',
  restoresLatest: false,
  version: async () => `${await versionOf('tar', '--version')}, zstd ${/v[\d.]+/.exec(await versionOf('zstd', '--version'))?.[0]}`,
  // with /dev/null as its archive tar reads no file's content: it only makes the snapshot file
  prepare: { unchanged: `tar ${flags} --listed-incremental=$CACHE/base.snar -cf /dev/null $PARTS` },
  steps: {
    full: `tar ${flags} -cf - $PARTS | zstd -3 -T0 -q -o $DEST/full.tar.zst`,
    unchanged: level('unchanged'),
    changed: level('changed'),
    restore: `zstd -d -c -q $DEST/full.tar.zst | tar --xattrs --xattrs-include='*' --acls --numeric-owner --same-permissions -C $OUT -xf -`,
  },
};

const resticBackup = 'restic backup --compression auto --one-file-system $PARTS';
const restic: Recipe = {
  name: 'restic',
  restoresLatest: true,
  version: () => versionOf('restic', 'version'),
  environment: (cache) => ({ RESTIC_PASSWORD: 'for the bench alone', RESTIC_CACHE_DIR: cache }),
  begin: 'restic -r $DEST/repo init',
  steps: {
    full: `${resticBackup} -r $DEST/repo`,
    unchanged: `${resticBackup} -r $DEST/repo`,
    changed: `${resticBackup} -r $DEST/repo`,
    restore: 'restic -r $DEST/repo restore latest --target $OUT',
  },
};

const borgCreate = (name: string): string => `borg create --compression zstd,3 --one-file-system $DEST/repo::${name} $PARTS`;
const borg: Recipe = {
  name: 'borg',
  restoresLatest: true,
  version: () => versionOf('borg', '--version'),
  environment: (cache) => ({ BORG_BASE_DIR: cache, BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' }),
  begin: 'borg init --encryption none $DEST/repo',
  // a step that is repeated needs its name again
  prepare: { changed: 'if borg list --short $DEST/repo | grep -x changed; then borg rename $DEST/repo::changed changed-$RANDOM; fi' },
  steps: {
    full: borgCreate('full'),
    unchanged: borgCreate('unchanged'),
    changed: borgCreate('changed'),
    restore: 'cd $OUT && borg extract --numeric-ids $DEST/repo::changed',
  },
};

class Peer implements Contender {
  readonly name: string;
  readonly commands: readonly string[];
  readonly destination: string;
  readonly restoresLatest: boolean;
  readonly #own: string;
  readonly #cache: string;
  #round = 0;

  constructor(
    private readonly recipe: Recipe,
    readonly version: string,
    private readonly folders: PeerFolders,
    private readonly signal: AbortSignal,
  ) {
    this.#own = join(folders.work, recipe.name.replace(/\W+/g, '-'));
    this.name = recipe.name;
    this.restoresLatest = recipe.restoresLatest;
    this.commands = [recipe.begin ?? '', ...Object.values(recipe.steps)].filter((line, at, all) => line !== '' && all.indexOf(line) === at);
    this.destination = join(this.#own, 'destination');
    this.#cache = join(this.#own, 'cache');
  }

  get restored(): string {
    return join(this.#own, `restored-${this.#round}`);
  }

  async begin(round: number): Promise<void> {
    this.#round = round;
    for (const folder of [this.destination, this.#cache]) {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
    }
    await mkdir(this.restored);
    if (this.recipe.begin !== undefined) await this.#shell(this.recipe.begin).ended;
  }

  async prepare(phase: Phase): Promise<void> {
    const line = this.recipe.prepare?.[phase];
    if (line !== undefined) await this.#shell(line).ended;
  }

  async start(phase: Phase): Promise<Running> {
    return this.#shell(this.recipe.steps[phase]);
  }

  /** Times of all ended children. Meanwhile this process starts nothing else, and the service, which runs, has not ended. */
  processor(): number {
    return endedChildrenSeconds();
  }

  #environment(): NodeJS.ProcessEnv {
    const folders = { PARTS: this.folders.parts.join(' '), DEST: this.destination, OUT: this.restored, CACHE: this.#cache };
    return { PATH: process.env.PATH, HOME: this.#own, LC_ALL: 'C.UTF-8', ...folders, ...this.recipe.environment?.(this.#cache) };
  }

  /** Runs it in a process group of its own, so that a stop ends all processes of a pipe and nothing is written afterwards. */
  #shell(line: string): Running {
    const child = spawn('bash', ['-euo', 'pipefail', '-c', line], {
      cwd: this.folders.subject,
      detached: true,
      env: this.#environment(),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const stop = () => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
    };
    this.signal.addEventListener('abort', stop, { once: true });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000);
    });
    const ended = new Promise<object>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => (code === 0 ? resolve({}) : reject(new Error(`${line} ended with ${code}: ${said}`))));
    }).finally(() => this.signal.removeEventListener('abort', stop));
    ended.catch(() => undefined); // the measurement awaits it later
    return { pid: child.pid ?? 0, ended };
  }
}

export async function peers(folders: PeerFolders, signal: AbortSignal): Promise<Contender[]> {
  return Promise.all([tar, restic, borg].map(async (recipe) => new Peer(recipe, await recipe.version(), folders, signal)));
}
