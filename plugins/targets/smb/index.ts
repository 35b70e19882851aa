import type { Readable } from 'node:stream';
import {
  anySignal,
  type Entry,
  type ListOptions,
  type PluginContext,
  PluginError,
  type Target,
  type TargetPlugin,
} from '../../../core/contract/index.js';
import { fileParts, filterAsked, newFileParts, pathParts, refuseTop } from '../../shared/paths.js';
import { untilAborted } from '../../shared/source.js';
import { Connection } from './connection.js';
import { type Probed, probe } from './detect.js';
import { type GetOptions, get } from './get.js';
import { Login, type SmbOptions } from './login.js';
import { checkNames, smbNames } from './names.js';
import { put } from './put.js';
import { shares } from './shares.js';
import { children, look, remove, type SharePath, space } from './tree.js';

export type { SmbOptions } from './login.js';

/** A folder on an SMB server, through Samba's smbclient, without a mount. One smbclient per share answers queries; each put and get
 *  has its own. Only SMB 2 and 3 with signed messages are used, and never a guest login. */
class SmbTarget implements Target {
  readonly supports;
  /** The dialect that the server chooses when all are offered. */
  server?: string;
  readonly #base: readonly string[];
  readonly #connections = new Map<string, Connection>();

  constructor(
    readonly context: PluginContext<SmbOptions>,
    readonly login: Login,
  ) {
    this.#base = pathParts(context.options.base ?? '');
    checkNames(this.#base);
    this.supports = { range: false, freeSpace: this.#base.length > 0, atomicReplace: true, connections: 3, names: smbNames } as const;
  }
  /** Connects. @throws PluginError: what is wrong with server, user or share */
  async connect(probing: Promise<Probed>): Promise<void> {
    const [share] = this.#base;
    if (share === undefined) await shares(this.login);
    else await this.#connectionTo(share).connect();
    const probed = await probing;
    if (probed.kind === 'smb' && probed.dialect !== undefined) this.server = probed.dialect;
  }
  #connectionTo(share: string): Connection {
    const connection = this.#connections.get(share) ?? new Connection(this.login, share);
    this.#connections.set(share, connection);
    return connection;
  }
  /** Resolves a path; undefined for the list of shares. @throws PluginError invalid */
  #find(path: string): SharePath | undefined {
    const [share, ...parts] = [...this.#base, ...pathParts(path)];
    checkNames(share === undefined ? [] : [share, ...parts]);
    return share === undefined ? undefined : { connection: this.#connectionTo(share), parts };
  }
  #file(path: string): SharePath {
    fileParts(path);
    const location = this.#find(path);
    if (location === undefined || location.parts.length === 0)
      throw new PluginError('invalid', `${path}: its first part is the share; name a file in it, as ${path}/name`);
    return location;
  }
  /** If the share is part of the path, a missing share is an absent path; else it is an error. */
  #inShare<T>(work: () => Promise<T>, absent: T): Promise<T> {
    return work().catch((error: unknown) => {
      if (this.#base.length === 0 && error instanceof PluginError && error.code === 'not_found') return absent;
      throw error;
    });
  }
  #signal(signal: AbortSignal): AbortSignal {
    return anySignal(signal, this.context.signal);
  }
  async put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<{ bytes: number }> {
    source.on('error', () => undefined); // it may fail while the put prepares; the read reports it
    try {
      newFileParts(path, this.supports.names);
      return await put(this.#file(path), source, { signal: this.#signal(o.signal), replace: o.replace ?? false });
    } catch (error) {
      source.destroy();
      throw error;
    }
  }
  async get(path: string, o: GetOptions): Promise<Readable> {
    return get(this.#file(path), { ...o, signal: this.#signal(o.signal) });
  }
  async stat(path: string): Promise<Entry | undefined> {
    const location = this.#find(path);
    if (location === undefined) return { name: '', folder: true, size: 0 };
    if (path === '') return look({ ...location, parts: [] }); // undefined if it is absent: the first put makes it
    const there = await this.#inShare(() => look(location), undefined);
    return there === undefined ? undefined : { name: pathParts(path).at(-1) ?? '', folder: there.folder, size: there.size };
  }
  async *list(path: string, o: ListOptions = {}): AsyncGenerator<Entry> {
    const location = this.#find(path);
    const found = location === undefined ? await shares(this.login) : await this.#inShare(() => children(location), []);
    yield* filterAsked(found, o);
  }
  async remove(path: string): Promise<void> {
    refuseTop(path);
    const location = this.#find(path);
    if (location === undefined || location.parts.length === 0)
      throw new PluginError('invalid', `${path} is a share; only what is in it can be removed`);
    await this.#inShare(() => remove(location), undefined);
  }
  async space(): Promise<{ total: number; free: number } | undefined> {
    const location = this.#find('');
    return location === undefined ? undefined : space(location);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const connection of this.#connections.values()) connection.close();
    await this.login[Symbol.asyncDispose]();
  }
}

async function open(context: PluginContext<SmbOptions>): Promise<Target> {
  const { host, port = 445 } = context.options;
  const login = await Login.open(context.options, context.stateFolder);
  const stop = new AbortController();
  const probing = probe(host, port, anySignal(context.signal, stop.signal));
  let target: SmbTarget | undefined;
  try {
    target = new SmbTarget(context, login);
    await untilAborted(target.connect(probing), context.signal, `SMB server ${host}`);
    return target;
  } catch (error) {
    await (target ?? login)[Symbol.asyncDispose]();
    const lost = error instanceof PluginError && error.code === 'unavailable';
    if (!lost || (await probing).kind !== 'other') throw error;
    const fix = 'allow that there, or correct host and port';
    throw new PluginError('unsupported', `what listens at port ${port} of ${host} does not speak SMB 2 or 3; ${fix}`, { cause: error });
  } finally {
    stop.abort();
  }
}

const plugin: TargetPlugin<SmbOptions> = {
  open,
  detection: { port: 445, answers: async (host, port, signal) => (await probe(host, port, signal)).kind === 'smb' },
};
export default plugin;
