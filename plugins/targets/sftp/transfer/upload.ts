/** An upload on the server: opens it, gives it its final name, or removes it. */
import { PluginError } from '../../../../core/contract/index.js';
import { partName } from '../../../shared/paths.js';
import type { Connection } from '../connection.js';
import { parentOf } from '../failure.js';
import type { OpenFile, Sftp } from '../protocol/client.js';
import { hasStatus, ifThere, Status } from '../protocol/status.js';
import { isFolder, Open } from '../protocol/wire.js';

export class Upload {
  readonly #name = partName();
  /** Folders made for it, the outermost first. */
  readonly #made: string[] = [];
  #started = false;

  constructor(
    readonly connection: Connection,
    readonly parts: readonly string[],
    readonly replace: boolean,
  ) {}

  get folder(): string {
    return this.connection.path(this.parts.slice(0, -1));
  }
  get part(): string {
    return `${this.folder === '/' ? '' : this.folder}/${this.#name}`;
  }
  get target(): string {
    return this.connection.path(this.parts);
  }

  /** Opens the upload and makes its folder if needed. @throws PluginError exists, and others */
  open(): Promise<OpenFile> {
    return this.connection.run(this.parts.slice(0, -1), async (sftp) => {
      await this.#refuseTaken(sftp);
      if (this.#started) await sftp.remove(this.part).catch(() => undefined); // the answer to the first try was lost
      this.#started = true;
      // retry: another put that fails may remove the folder that this one just found
      for (let tries = 5; ; tries--) {
        try {
          return { sftp, handle: await sftp.open(this.part, Open.write | Open.create | Open.exclusive) };
        } catch (error) {
          if (!hasStatus(error, Status.noSuchFile) || tries === 0) throw error;
        }
        await this.#makeFolder(sftp, this.folder);
      }
    });
  }

  async #makeFolder(sftp: Sftp, path: string): Promise<void> {
    try {
      await sftp.makeFolder(path);
      this.#made.push(path);
    } catch (error) {
      if (hasStatus(error, Status.noSuchFile) && path !== '/') {
        await this.#makeFolder(sftp, parentOf(path));
        return this.#makeFolder(sftp, path);
      }
      // the server says only "Failure" of an existing name
      const there = await ifThere(sftp.stat(path));
      if (there !== undefined && isFolder(there)) return;
      if ((await ifThere(sftp.lstat(path))) === undefined) throw error;
      throw new PluginError('invalid', `${path} is a file or a link that leads nowhere, where a folder is needed; remove it`, {
        cause: error,
      });
    }
  }

  async #refuseTaken(sftp: Sftp): Promise<void> {
    const there = await ifThere(sftp.lstat(this.target));
    if (there === undefined) return;
    if (!this.replace) throw new PluginError('exists', `${this.target} is already there`);
    if (isFolder(there)) throw new PluginError('exists', `${this.target} is a folder; a file cannot replace it`);
  }

  /** Renames the upload to its final name. Can be repeated when it is unknown whether the first try worked.
   *  SFTP has no fsync of folders: the name is durable only when the server writes its folder. */
  async commit(sftp: Sftp, size: number, again: boolean): Promise<void> {
    if (again && (await ifThere(sftp.lstat(this.part))) === undefined) {
      // the upload's name is secret, so it was renamed, unless the target is another file
      if ((await ifThere(sftp.lstat(this.target)))?.size === size) return;
      throw new PluginError('damaged', `${this.target}: after the connection broke it is not there; try again`, { retryable: true });
    }
    await this.#refuseTaken(sftp);
    if (this.replace && sftp.offers('posix-rename@openssh.com')) return sftp.replace(this.part, this.target);
    try {
      await sftp.rename(this.part, this.target);
    } catch (error) {
      if (sftp.failure !== undefined || (await ifThere(sftp.lstat(this.target))) === undefined) throw error;
      if (!this.replace) throw new PluginError('exists', `${this.target} is already there`, { cause: error });
      // without posix-rename the target is missing for a moment
      await ifThere(sftp.remove(this.target));
      await sftp.rename(this.part, this.target);
    }
  }

  /** Removes the upload and the folders made for it. */
  async undo(): Promise<void> {
    if (!this.#started) return;
    await this.connection.run([], async (sftp) => {
      await ifThere(sftp.remove(this.part));
      // the innermost first; a folder that another put uses is not empty and stays
      for (const folder of [...this.#made].reverse()) await sftp.removeFolder(folder);
    });
  }
}
