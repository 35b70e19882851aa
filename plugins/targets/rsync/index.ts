import type { Readable } from 'node:stream';
import {
  anySignal,
  defaultNames,
  type Entry,
  type ListOptions,
  type NameRules,
  type PluginContext,
  PluginError,
  type Stored,
  type Target,
  type TargetPlugin,
} from '../../../core/contract/index.js';
import { fileParts, filterAsked, newFileParts, pathParts, refuseTop } from '../../shared/paths.js';
import { untilAborted } from '../../shared/source.js';
import { hostKeyOf, type SshOptions } from '../../shared/ssh/connection.js';
import { Connection } from './connection.js';
import { rootOf } from './filters.js';
import { RemoteFolder } from './folder.js';
import { type GetOptions, get } from './get.js';
import { Leftovers } from './leftovers.js';
import { suffix } from './pieces.js';
import { put } from './put.js';
import { Stage } from './staging.js';
import { remove, stat } from './tree.js';

export interface RsyncOptions extends SshOptions {
  /** Folder on the server: a/b is /a/b, ~/a is in the login's home folder. */
  readonly base?: string;
  /** Accepted as for other targets; SSH always encrypts. */
  readonly encrypt?: boolean;
  /** A larger file is stored in pieces of so many MiB. Default 64. */
  readonly pieceMiB?: number;
}

/** Longest path that every system and rsync's filters accept, base included. */
const longestPath = 3_000;
const goodbye = 2_000;

/** A large file becomes a folder of its name and the suffix, which must be a valid name, too. */
const names: NameRules = { ...defaultNames, longest: defaultNames.longest - suffix.length };

/** A folder on a server that has rsync. All files travel through rsync over one SSH connection, so that a key restricted to rsync
 *  by an rrsync jail is enough. rsync sends only files of a known size, so a put stages its source on this appliance in pieces, two
 *  at a time. A file larger than one piece stays in pieces on the server (see pieces.ts). */
class RsyncTarget implements Target {
  readonly supports = { range: true, freeSpace: false, atomicReplace: true, connections: 3, names } as const;
  readonly #pieceBytes: number;

  constructor(
    readonly context: PluginContext<RsyncOptions>,
    readonly remote: RemoteFolder,
    readonly server: string,
  ) {
    this.#pieceBytes = (context.options.pieceMiB ?? 64) << 20;
  }
  /** Also aborted when the target is closed, so that open reads release what they hold. */
  #signal(signal?: AbortSignal): AbortSignal {
    const own = this.remote.connection.signal;
    return signal === undefined ? own : anySignal(signal, own);
  }
  async put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<Stored> {
    source.on('error', () => undefined); // it may fail while the put prepares; the read reports it
    try {
      const parts = newFileParts(path, this.supports.names);
      const taken = parts.find((part) => part.endsWith(suffix));
      if (taken !== undefined) throw new PluginError('invalid', `${taken}: names that end in ${suffix} are those of files in pieces`);
      const options = { signal: this.#signal(o.signal), replace: o.replace ?? false, pieceBytes: this.#pieceBytes };
      return await put(this.remote, readable(parts), source, options);
    } catch (error) {
      source.destroy();
      throw error;
    }
  }
  async get(path: string, o: GetOptions): Promise<Readable> {
    return get(this.remote, readable(fileParts(path)), { ...o, signal: this.#signal(o.signal), pieceBytes: this.#pieceBytes });
  }
  async stat(path: string): Promise<Entry | undefined> {
    return stat(this.remote, checkLength(pathParts(path)), this.#signal());
  }
  async *list(path: string, o: ListOptions = {}): AsyncGenerator<Entry> {
    const found = await this.remote.children(checkLength(pathParts(path)), this.#signal());
    yield* filterAsked(found, o);
  }
  async remove(path: string): Promise<void> {
    refuseTop(path);
    await remove(this.remote, checkLength(pathParts(path)), this.#signal());
  }
  async space(): Promise<undefined> {
    return undefined; // rsync cannot ask for free space
  }
  async [Symbol.asyncDispose](): Promise<void> {
    const late = AbortSignal.timeout(goodbye);
    await this.remote.unprepare(late);
    await this.remote.connection.close();
    await this.remote.stage[Symbol.asyncDispose]();
  }
}

/** @throws PluginError invalid */
function checkLength(parts: readonly string[]): readonly string[] {
  if (Buffer.byteLength(parts.join('/')) <= longestPath) return parts;
  throw new PluginError('invalid', `a path of more than ${longestPath} bytes cannot be used; take shorter names`);
}

/** Refuses names that rsync 3.2 could not read back: it checks what a server sends against its request and takes these characters
 *  for escapes (add_implied_include in its exclude.c). @throws PluginError invalid */
function readable(parts: readonly string[]): readonly string[] {
  const odd = parts.find((part) => /\\[*?[\]]/.test(part));
  if (odd === undefined) return checkLength(parts);
  throw new PluginError(
    'invalid',
    `${JSON.stringify(odd)}: rsync cannot read a name with a backslash before * ? [ or ]; take another name`,
  );
}

async function open(context: PluginContext<RsyncOptions>): Promise<Target> {
  const { options, signal } = context;
  const root = rootOf(checkLength(pathParts(options.base ?? '')));
  const stage = await Stage.open(context.stateFolder);
  const connection = new Connection(options, context.log, signal);
  try {
    const leftovers = new Leftovers(context.stateFolder, `${options.username}@${connection.address}:${root}`);
    const remote = new RemoteFolder(connection, stage, root, leftovers);
    await untilAborted(remote.probe(signal), signal, connection.address);
    return new RsyncTarget(context, remote, connection.banner ?? '');
  } catch (error) {
    await connection.close();
    await stage[Symbol.asyncDispose]();
    throw error;
  }
}

const plugin: TargetPlugin<RsyncOptions> = {
  open,
  async pin({ options, signal }) {
    return { hostKey: await hostKeyOf(options.host, options.port ?? 22, signal) };
  },
};
export default plugin;
