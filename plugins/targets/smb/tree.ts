import { setTimeout as sleep } from 'node:timers/promises';
import { type Entry, PluginError, type PluginErrorCode } from '../../../core/contract/index.js';
import { isPart } from '../../shared/paths.js';
import { type Answer, type Connection, type RunOptions, treeTime } from './connection.js';
import { isAbsent, shareError } from './failure.js';
import { quote } from './names.js';

/** A path on a share: `parts` are the folders and the name below its top. */
export interface SharePath {
  readonly connection: Connection;
  readonly parts: readonly string[];
}

export const showPath = (parts: readonly string[]): string => parts.join('/') || 'the top';

function failed({ connection, parts }: SharePath, status: string, code?: PluginErrorCode): PluginError {
  return shareError(status, showPath(parts), connection.login.peer(connection.share), code);
}

/** The error of a refused write. A share that the user can read but not write is read_only. */
export async function writeFailed(location: SharePath, status: string): Promise<PluginError> {
  if (status !== 'ACCESS_DENIED') return failed(location, status);
  const parent = { connection: location.connection, parts: location.parts.slice(0, -1) };
  const readable = await children(parent).then(
    () => true,
    () => false,
  );
  return failed(location, status, readable ? 'read_only' : 'denied');
}

/** Runs a command that writes, with one path. @throws PluginError, except for statuses that are `fine` */
async function write(location: SharePath, command: string, fine: (status: string) => boolean, o?: RunOptions): Promise<Answer> {
  const answer = await location.connection.run(`${command} ${quote(location.parts)}`, o);
  if (answer.status !== undefined && !fine(answer.status)) throw await writeFailed(location, answer.status);
  return answer;
}

/** Retries for a moment while a file is in use: the server may not yet have noticed that an smbclient exited, and virus scanners
 *  open new files. @throws PluginError */
export async function unlessInUse<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 25; ; tries--) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof PluginError) || error.code !== 'in_use' || tries === 0) throw error;
      await sleep(100);
    }
  }
}

/** Two spaces, the name padded to 30, the attributes in 7, a space, the size in 8 or more; two spaces and the date. */
const line = /^( {2}.*?(\d+)) {2}\w{3} (\w{3} [ \d]\d \d\d:\d\d:\d\d {1,2}\d{4})$/s;

/** Parses one line of a listing from its end: a name may hold any character, but its last blanks are padding. */
function entryIn(text: string): Entry {
  const [, head, digits, date] = line.exec(text) ?? [];
  if (head === undefined || digits === undefined) throw new PluginError('failed', `smbclient lists what is no entry: ${text}`);
  const end = head.length - Math.max(8, digits.length) - 8;
  const folder = head.slice(end, end + 7).includes('D');
  return { name: head.slice(2, end).replace(/ +$/, ''), folder, size: folder ? 0 : Number(digits), modified: Date.parse(`${date} UTC`) };
}

function entriesIn(output: string): Entry[] {
  const entries = output.split('\n').flatMap((text) => (text.startsWith('  ') ? [entryIn(text)] : []));
  return entries.filter(({ name }) => !['', '.', '..'].includes(name));
}

/** Looks up a path; the entry has the name as the server writes it. @throws PluginError */
export async function look(location: SharePath): Promise<Entry | undefined> {
  return (await lookInFolder(location)).entry;
}

/** As look, and whether the parent folder exists; some servers do not tell of an existing one. @throws PluginError */
export async function lookInFolder(location: SharePath): Promise<{ readonly entry: Entry | undefined; readonly inFolder: boolean }> {
  if (location.parts.length === 0) {
    await location.connection.run('volume'); // any answer will do
    return { entry: { name: '', folder: true, size: 0 }, inFolder: true };
  }
  const { output, status } = await location.connection.run(`ls ${quote(location.parts)}`);
  if (status === undefined) return { entry: entriesIn(output)[0], inFolder: true };
  if (!isAbsent(status)) throw failed(location, status);
  return { entry: undefined, inFolder: status === 'NO_SUCH_FILE' };
}

/** Lists a folder; an absent one is empty. @throws PluginError */
export async function children(location: SharePath): Promise<Entry[]> {
  const { output, status } = await location.connection.run(`ls ${quote([...location.parts, '*'])}`);
  if (status !== undefined && !isAbsent(status)) throw failed(location, status);
  if (status !== undefined) return [];
  return entriesIn(output).map((entry) => (isPart(entry.name) ? { ...entry, unfinished: true } : entry));
}

/** Removes a file or a tree; does nothing when it is absent. @throws PluginError */
export async function remove(location: SharePath): Promise<void> {
  const there = await look(location);
  if (there === undefined) return;
  if (there.folder) await unlessInUse(() => write(location, 'deltree', isAbsent, { timeout: treeTime }));
  else await removeFile(location);
}

export async function removeFile(location: SharePath): Promise<void> {
  await unlessInUse(() => write(location, 'del', isAbsent));
}

/** Makes one folder. @returns whether it is new @throws PluginError */
async function makeOne(location: SharePath): Promise<boolean> {
  const { status } = await write(location, 'mkdir', (status) => status === 'OBJECT_NAME_COLLISION');
  if (status === undefined) return true;
  const there = await look(location);
  if (there !== undefined && !there.folder) throw new PluginError('invalid', `${showPath(location.parts)} is a file, not a folder`);
  return false;
}

/** Makes a folder and its missing parents. @returns how many of the last parts are new. @throws PluginError */
export async function makeFolder({ connection, parts }: SharePath): Promise<number> {
  let there = parts.length;
  while (there > 0 && !(await look({ connection, parts: parts.slice(0, there) }))?.folder) there--;
  let made = 0;
  for (let depth = there + 1; depth <= parts.length; depth++) {
    try {
      made = (await makeOne({ connection, parts: parts.slice(0, depth) })) ? made + 1 : 0;
    } catch (error) {
      await unmakeFolder({ connection, parts: parts.slice(0, depth - 1) }, made);
      throw error;
    }
  }
  return made;
}

/** Removes the last `made` folders, as far as they are empty, after a put failed. */
export async function unmakeFolder({ connection, parts }: SharePath, made: number): Promise<void> {
  for (let depth = parts.length; depth > parts.length - made; depth--) {
    const { status } = await connection.run(`rmdir ${quote(parts.slice(0, depth))}`);
    if (status !== undefined) return; // another put uses it by now
  }
}

/** Reads the numbers after a listing. @throws PluginError */
export async function space(location: SharePath): Promise<{ total: number; free: number } | undefined> {
  for (const command of location.parts.length === 0 ? ['ls'] : [`ls ${quote(location.parts)}`, 'ls']) {
    const { output, status } = await location.connection.run(command);
    const [, blocks, size, free] = /(\d+) blocks of size (\d+)\. (\d+) blocks available/.exec(output) ?? [];
    if (blocks !== undefined) return { total: Number(blocks) * Number(size), free: Number(free) * Number(size) };
    if (status !== undefined && !isAbsent(status)) throw failed(location, status);
  }
  return undefined;
}
