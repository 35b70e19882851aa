import { mkdir } from 'node:fs/promises';
import { type Entry, PluginError } from '../../../core/contract/index.js';
import { isPart, partName } from '../../shared/paths.js';
import { untilAborted } from '../../shared/source.js';
import type { Ended } from './child.js';
import type { Call, Connection } from './connection.js';
import { isMissing, lostTemp, textOf } from './failure.js';
import { above, type Item, itemsIn, pattern } from './filters.js';
import type { Leftovers } from './leftovers.js';
import { anyMarker, anyPiece, PieceFolder, suffix } from './pieces.js';
import { noRoom, type Stage } from './staging.js';

/** What exists at a path. */
export interface Looked {
  /** The entry of exactly this name. */
  readonly plain: Item | undefined;
  /** The folder `<path>.pieces`, if it exists. */
  readonly pieces: PieceFolder | undefined;
  /** How many of the parent folders exist. */
  readonly depth: number;
  /** A parent that is a file. */
  readonly blocked: string | undefined;
}

export interface PushOptions extends Pick<Call, 'signal' | 'again'> {
  /** Writes at the final path, without a temporary file and rename. */
  readonly inplace?: boolean;
  /** Keeps an existing file and sends nothing. */
  readonly keep?: boolean;
}

export interface PullOptions extends Omit<Call, 'what' | 'input'> {
  /** Reads only the bytes after so many. */
  readonly from?: number;
}

export interface Pushed {
  /** False when `keep` kept an existing file. */
  readonly sent: boolean;
  readonly tries: number;
}

/** A folder on a server and its operations through rsync. */
export class RemoteFolder {
  /** Folder in which rsync writes temporary files, so that leftovers are recognised by their path. */
  readonly temp = partName();
  #ready: Promise<void> | undefined;
  /** The temporary folder may exist: a server may have made it although its answer was lost. */
  #mayBeThere = false;
  #swept = false;
  #there = false;
  #fromTop = false;

  constructor(
    readonly connection: Connection,
    readonly stage: Stage,
    /** rsync's argument, which ends in a slash. */
    readonly root: string,
    readonly leftovers: Leftovers,
  ) {}

  get #remote(): string {
    return `server:${this.root}`;
  }

  /** Checks that the server answers, accepts the login and has rsync. The folder itself may be missing. @throws PluginError */
  async probe(signal: AbortSignal): Promise<void> {
    const { connection } = this;
    const args = ['-d', '--list-only', '--filter=- *', '--', this.#remote];
    const ended = await connection.once(args, { signal, what: `looking into ${this.root}`, fine: isMissing });
    this.#there = ended.code === 0;
  }

  /** Lists what the rules include, by path. Undefined when the base folder is missing. @throws PluginError */
  async items(rules: readonly string[], o: Pick<Call, 'signal' | 'what'>, folder = ''): Promise<Map<string, Item> | undefined> {
    const filters = [...rules.map((rule) => `--filter=${rule}`), '--filter=- *'];
    // unreadable or vanished entries (23, 24) are only missing in the list
    const fine = (ended: Ended): boolean => isMissing(ended) || [23, 24].includes(ended.code);
    const ended = await this.connection.call(['-r', '--list-only', '--no-h', ...filters, '--', this.#remote], { ...o, fine });
    const items = itemsIn(ended.stdout);
    if (ended.code === 0 || (items.has('.') && !isShut(textOf(ended), folder, items))) return items;
    if (isMissing(ended)) return undefined;
    throw this.connection.failed(ended, o.what);
  }

  /** Looks up a path; `sizes` also lists each of its pieces. @throws PluginError */
  async look(parts: readonly string[], signal: AbortSignal, o: { sizes?: boolean } = {}): Promise<Looked> {
    const path = parts.join('/');
    const rules: string[] = [];
    for (let depth = 1; depth < parts.length; depth++) {
      const folder = parts.slice(0, depth);
      rules.push(`+ ${pattern(folder)}`, `+ ${pattern(folder, `${suffix}/`)}`, `+ ${pattern(folder, `${suffix}/${anyMarker}`)}`);
    }
    rules.push(`+ ${pattern(parts)}`, `+ ${pattern(parts, `${suffix}/`)}`, `+ ${pattern(parts, `${suffix}/${o.sizes ? '*' : anyMarker}`)}`);
    const items = (await this.items(rules, { signal, what: `looking for ${path}` })) ?? new Map<string, Item>();
    const folders = parts.slice(0, -1).map((_, i) => parts.slice(0, i + 1).join('/'));
    const depth = folders.findIndex((folder) => items.get(folder)?.kind !== 'folder');
    const blocked = folders.find((folder) => items.get(folder)?.kind === 'file' || piecesOf(items, folder)?.whole !== undefined);
    return { plain: items.get(path), pieces: piecesOf(items, path), depth: depth < 0 ? folders.length : depth, blocked };
  }

  /** Lists a folder. @throws PluginError */
  async children(parts: readonly string[], signal: AbortSignal): Promise<Entry[]> {
    const path = parts.join('/');
    const here = parts.length === 0 ? [] : [`+ ${pattern(parts, '/')}`];
    const rules = [
      ...above(parts).map((folder) => `+ ${folder}`),
      ...here,
      `- ${pattern(parts, `/*${suffix}/${anyPiece}`)}`,
      `+ ${pattern(parts, '/*')}`,
      `+ ${pattern(parts, `/*${suffix}/*`)}`,
    ];
    const items = (await this.items(rules, { signal, what: `listing ${path || 'the top'}` }, path)) ?? new Map<string, Item>();
    return entriesIn(items, parts).filter(({ name }) => parts.length > 0 || name !== this.temp);
  }

  /** Stores files of the folder `tree` under the same paths. @throws PluginError */
  async push(tree: string, paths: readonly string[], o: PushOptions): Promise<Pushed> {
    const what = `storing ${paths.join(', ')}`;
    const keep = o.keep ? ['--ignore-existing'] : [];
    const args = ['-IW', '--fsync', '--no-implied-dirs', '--chmod=F666', '--files-from=-', '--from0', '--out-format=sent', ...keep];
    const input = paths.map(listLine).join('');
    for (let left = 4; ; left--) {
      await this.#prepare(o.signal);
      try {
        const way = o.inplace ? '--inplace' : `--temp-dir=${this.#tempArgument}`;
        const { stdout, tries } = await this.connection.call([...args, way, '--', `${tree}/`, this.#remote], { ...o, what, input });
        return { sent: stdout !== '', tries };
      } catch (error) {
        // a sweep or an undo elsewhere may have removed the folder
        if (!(error instanceof PluginError) || error.code !== 'not_found' || left === 0) throw error;
        if (lostTemp(error) && !this.root.startsWith('/')) this.#fromTop = !this.#fromTop;
        this.#ready = undefined;
        await this.probe(o.signal);
      }
    }
  }
  /** The argument of --temp-dir. An absolute path suits all. rsync resolves a relative one from the base, but newer rrsync from the
   *  top of its jail. */
  get #tempArgument(): string {
    if (this.root.startsWith('/')) return `${this.root}${this.temp}`;
    return this.#fromTop ? `${this.root.slice(2)}${this.temp}` : this.temp;
  }

  /** Makes the base folder and, in it, the temporary folder. */
  async #prepare(signal: AbortSignal): Promise<void> {
    const ready = this.#ready ?? this.#make(this.connection.signal); // one promise for all puts, so the first put's abort must not end it
    this.#ready = ready;
    ready.catch(() => {
      if (this.#ready === ready) this.#ready = undefined;
    });
    await untilAborted(ready, signal, `making ${this.root}`);
  }
  async #make(signal: AbortSignal): Promise<void> {
    if (!this.#mayBeThere) await this.leftovers.note(this.temp);
    this.#mayBeThere = true;
    const there = this.#there;
    // an existing base may be reached through links, which rsync would not follow for implied folders
    const way = there ? [] : this.root.split('/').filter((part) => part !== '' && part !== '.');
    await using tree = await this.stage.folder([...way, this.temp]);
    const top = this.root.startsWith('/') ? '/' : './';
    const args = ['--no-implied-dirs', '--files-from=-', '--from0', '--', `${tree.path}/`, there ? this.#remote : `server:${top}`];
    const input = listLine([...way, this.temp].join('/'));
    await this.connection.call(args, { signal, what: `making ${this.root}`, input });
    this.#there = true;
    await this.#sweep(signal);
  }
  /** Removes temporary folders that earlier targets left because their server was away. A failure is only logged: the next target
   *  tries again. */
  async #sweep(signal: AbortSignal): Promise<void> {
    if (this.#swept) return;
    this.#swept = true;
    const names = await this.leftovers.abandoned();
    if (names.length === 0) return;
    await this.#removeTemps(names, signal).catch((error: unknown) => {
      this.connection.log(
        'warn',
        `${this.connection.address}: unfinished files of an earlier connection are still there: ${String(error)}`,
      );
    });
  }
  async #removeTemps(names: readonly string[], signal: AbortSignal): Promise<void> {
    const patterns = names.flatMap((name) => [pattern([name]), pattern([name], '/**')]);
    await this.remove([], patterns, signal);
    await this.leftovers.forget(names);
  }
  /** Removes the temporary folder. If that fails, it is noted for a later target. */
  async unprepare(signal: AbortSignal): Promise<void> {
    if (!this.#mayBeThere) return;
    try {
      await untilAborted(this.#ready ?? Promise.resolve(), signal, this.root).catch(() => undefined);
      this.#ready = undefined;
      await untilAborted(this.#removeTemps([this.temp], signal), signal, this.root);
    } catch {
      await this.leftovers.abandon(this.temp);
    } finally {
      this.#mayBeThere = false;
    }
  }

  /** Removes what the patterns match below the folder `parts`, and nothing else. Keeps folders that are not empty then, and what
   *  `kept` matches. Does nothing for absent entries. @throws PluginError */
  async remove(parts: readonly string[], patterns: readonly string[], signal: AbortSignal, kept: readonly string[] = []): Promise<void> {
    await using tree = await this.stage.folder(parts);
    const rules = [...kept.map((text) => `P ${text}`), ...patterns.map((text) => `R ${text}`), 'P *'];
    const filters = rules.map((rule) => `--filter=${rule}`);
    const args = ['-r', '--delete', '--existing', '--omit-dir-times', ...filters, '--', `${tree.path}/`, this.#remote];
    await this.connection.call(args, { signal, what: `removing from ${parts.join('/') || 'the top'}`, fine: isMissing });
  }

  /** Downloads a file into the folder `into`, under its last name. @throws PluginError not_found */
  async pull(path: string, into: string, o: PullOptions): Promise<void> {
    const way = o.from === undefined ? ['-IW', '--inplace'] : ['-I', '--append'];
    const args = [...way, '--files-from=-', '--from0', '--no-relative', '--chmod=F600', '--', this.#remote, `${into}/`];
    await mkdir(into, { recursive: true, mode: 0o700 });
    await this.connection.call(args, { ...o, what: `reading ${path}`, input: listLine(path) }).catch((error: unknown) => {
      // the disk of this appliance is full, not the server's
      if (error instanceof PluginError && error.code === 'no_space') throw noRoom(into, error);
      throw error;
    });
  }
}

/** A line of a list of files. The prefix ./ protects a name that begins with #, which would be a comment. */
const listLine = (path: string): string => `./${path}\0`;

/** Whether the requested folder itself is unreadable, not only one inside it. */
function isShut(said: string, folder: string, items: ReadonlyMap<string, Item>): boolean {
  const shut = [...said.matchAll(/opendir "([^\n]*)" failed/g)].map(([, path = '']) => path);
  return folder === '' ? shut.length > 0 && items.size === 1 : shut.some((path) => path.endsWith(`/${folder}`));
}

/** The folder of pieces of a path. */
function piecesOf(items: ReadonlyMap<string, Item>, path: string): PieceFolder | undefined {
  const top = `${path}${suffix}`;
  if (items.get(top)?.kind !== 'folder') return undefined;
  const folder = new PieceFolder();
  for (const [name, item] of items) if (name.startsWith(`${top}/`)) folder.add(name.slice(top.length + 1), item);
  return folder;
}

function entriesIn(items: ReadonlyMap<string, Item>, parts: readonly string[]): Entry[] {
  const top = parts.length === 0 ? '' : `${parts.join('/')}/`;
  const entries: Entry[] = [];
  const folders = new Map<string, PieceFolder>();
  for (const [path, item] of items) {
    if (path === '.' || !path.startsWith(top)) continue;
    const [name = '', below] = path.slice(top.length).split('/');
    if (below !== undefined) {
      folders.get(name)?.add(below, item);
      continue;
    }
    if (name.endsWith(suffix) && item.kind === 'folder') folders.set(name, new PieceFolder());
    else {
      const { kind, size, modified } = item;
      entries.push({ name, folder: kind === 'folder', size, modified, ...(isPart(name) ? { unfinished: true } : {}) });
    }
  }
  const plain = new Set(entries.map(({ name }) => name));
  for (const [folder, held] of folders) {
    const name = folder.slice(0, -suffix.length);
    if (held.whole === undefined) entries.push({ name: folder, folder: true, size: 0, ...(held.ours ? { unfinished: true } : {}) });
    else if (!plain.has(name)) entries.push({ name, folder: false, size: held.whole.bytes });
  }
  return entries;
}
