import type { Readable } from 'node:stream';
import {
  anySignal,
  defaultNames,
  type Entry,
  type ListOptions,
  type PluginContext,
  PluginError,
  type Target,
  type TargetPlugin,
} from '../../../core/contract/index.js';
import { fileParts, newFileParts, pathParts, refuseTop } from '../../shared/paths.js';
import { answersSsh, hostKeyOf } from '../../shared/ssh/connection.js';
import { Connection, type SftpOptions } from './connection.js';
import { fileSystemAt } from './failure.js';
import { type GetOptions, get } from './get.js';
import type { Sftp } from './protocol/client.js';
import { ifThere } from './protocol/status.js';
import { isFolder } from './protocol/wire.js';
import { put } from './put.js';
import { list, remove, stat } from './tree.js';

/** A folder of an SSH server. After a break the next call reconnects. */
class SftpTarget implements Target {
  readonly supports;
  readonly server: string;

  constructor(
    readonly context: PluginContext<SftpOptions>,
    readonly connection: Connection,
    sftp: Sftp,
  ) {
    this.server = sftp.channel.connection.serverBanner;
    this.supports = {
      range: true,
      freeSpace: sftp.offers('statvfs@openssh.com'),
      atomicReplace: sftp.offers('posix-rename@openssh.com'),
      connections: 4,
      names: defaultNames, // SFTP does not tell which names the server's file system refuses or takes for one
    } as const;
    if (!sftp.offers('fsync@openssh.com')) context.log('warn', 'the server has no fsync: what it stored may be lost when its power fails');
  }
  #signal(signal: AbortSignal): AbortSignal {
    return anySignal(signal, this.context.signal);
  }
  async put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<{ bytes: number }> {
    source.on('error', () => undefined); // it may fail while the put prepares; the read reports it
    try {
      const parts = newFileParts(path, this.supports.names);
      return await put(this.connection, parts, source, { signal: this.#signal(o.signal), replace: o.replace ?? false });
    } catch (error) {
      source.destroy();
      throw error;
    }
  }
  async get(path: string, o: GetOptions): Promise<Readable> {
    return get(this.connection, fileParts(path), { ...o, signal: this.#signal(o.signal) });
  }
  async stat(path: string): Promise<Entry | undefined> {
    const parts = pathParts(path);
    return path === '' ? { name: '', folder: true, size: 0 } : stat(this.connection, parts);
  }
  async *list(path: string, o: ListOptions = {}): AsyncGenerator<Entry> {
    yield* list(this.connection, pathParts(path), o);
  }
  async remove(path: string): Promise<void> {
    refuseTop(path);
    await remove(this.connection, pathParts(path));
  }
  async space(): Promise<{ total: number; free: number } | undefined> {
    const found = await this.connection.run([], fileSystemAt);
    return found === undefined ? undefined : { total: found.total, free: found.free };
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.connection.close();
  }
}

/** Refuses a base that is no folder. An absent base is made by the first put. */
async function requireFolder(sftp: Sftp, path: string): Promise<void> {
  const found = await ifThere(sftp.stat(path));
  if (found === undefined || isFolder(found) || found.mode === undefined) return;
  throw new PluginError('invalid', `${path} on the server is no folder; change options.base`);
}

const plugin: TargetPlugin<SftpOptions> = {
  async open(context) {
    const connection = new Connection(context.options, context.signal);
    try {
      const sftp = await connection.sftp();
      await connection.run([], requireFolder);
      return new SftpTarget(context, connection, sftp);
    } catch (error) {
      connection.close();
      throw error;
    }
  },
  detection: { port: 22, answers: answersSsh },
  async pin({ options, signal }) {
    return { hostKey: await hostKeyOf(options.host, options.port ?? 22, signal) };
  },
};
export default plugin;
