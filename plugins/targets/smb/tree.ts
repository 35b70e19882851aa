import { setTimeout as sleep } from 'node:timers/promises';
import { type Entry, PluginError, type PluginErrorCode } from '../../../core/contract/index.js';
import { isPart } from '../../shared/paths.js';
import { type Answer, type Connection, type RunOptions, treeTime } from './connection.js';
import { isAbsent, shareError } from './failure.js';
import { quote } from './names.js';

/** Something on a share: `parts` are the folders and the name below its top. */
export interface SharePath {
  readonly session: Connection;
  readonly parts: readonly string[];
}

export const showPath = (parts: readonly string[]): string => parts.join('/') || 'the top';

function failed({ session, parts }: SharePath, status: string, code?: PluginErrorCode): PluginError {
  return shareError(status, showPath(parts), session.login.peer(session.share), code);
}

/** What a refusal means for a caller who writes: who may read but not write has a share that is read only. */
export async function writeFailed(place: SharePath, status: string): Promise<PluginError> {
  if (status !== 'ACCESS_DENIED') return failed(place, status);
  const parent = { session: place.session, parts: place.parts.slice(0, -1) };
  const readable = await children(parent).then(
    () => true,
    () => false,
  );
  return failed(place, status, readable ? 'read_only' : 'denied');
}

/** A command that writes, with one path. @throws PluginError, but nothing for the statuses that are `fine` */
async function write(place: SharePath, command: string, fine: (status: string) => boolean, o?: RunOptions): Promise<Answer> {
  const answer = await place.session.run(`${command} ${quote(place.parts)}`, o);
  if (answer.status !== undefined && !fine(answer.status)) throw await writeFailed(place, answer.status);
  return answer;
}

/** Tries again for a moment what fails because somebody has the file open: the server may not yet have noticed that a
 *  smbclient was ended, and scanners for viruses look at what is new. @throws PluginError */
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

/** Two spaces, the name filled up to 30, the attributes in 7, a space, the size in 8 or more; two spaces and the date. */
const line = /^( {2}.*?(\d+)) {2}\w{3} (\w{3} [ \d]\d \d\d:\d\d:\d\d {1,2}\d{4})$/s;

/** One line of a listing, read from its end: a name may hold anything, but its last blanks are those that fill it up. */
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

/** What is under a path, if anything; as the server writes its name. @throws PluginError */
export async function look(place: SharePath): Promise<Entry | undefined> {
  return (await lookInFolder(place)).entry;
}

/** As look, and whether the folder that it would be in is there; of some that are, that is not said. @throws PluginError */
export async function lookInFolder(place: SharePath): Promise<{ readonly entry: Entry | undefined; readonly inFolder: boolean }> {
  if (place.parts.length === 0) {
    await place.session.run('volume'); // whatever the answer, there is one
    return { entry: { name: '', folder: true, size: 0 }, inFolder: true };
  }
  const { output, status } = await place.session.run(`ls ${quote(place.parts)}`);
  if (status === undefined) return { entry: entriesIn(output)[0], inFolder: true };
  if (!isAbsent(status)) throw failed(place, status);
  return { entry: undefined, inFolder: status === 'NO_SUCH_FILE' };
}

/** What a folder holds; nothing when it is absent. @throws PluginError */
export async function children(place: SharePath): Promise<Entry[]> {
  const { output, status } = await place.session.run(`ls ${quote([...place.parts, '*'])}`);
  if (status !== undefined && !isAbsent(status)) throw failed(place, status);
  if (status !== undefined) return [];
  return entriesIn(output).map((entry) => (isPart(entry.name) ? { ...entry, unfinished: true } : entry));
}

/** Removes a file or a tree; absent is fine. @throws PluginError */
export async function remove(place: SharePath): Promise<void> {
  const there = await look(place);
  if (there === undefined) return;
  if (there.folder) await unlessInUse(() => write(place, 'deltree', isAbsent, { timeout: treeTime }));
  else await removeFile(place);
}

export async function removeFile(place: SharePath): Promise<void> {
  await unlessInUse(() => write(place, 'del', isAbsent));
}

/** Makes one folder. @returns whether it is new @throws PluginError */
async function makeOne(place: SharePath): Promise<boolean> {
  const { status } = await write(place, 'mkdir', (status) => status === 'OBJECT_NAME_COLLISION');
  if (status === undefined) return true;
  const there = await look(place);
  if (there !== undefined && !there.folder) throw new PluginError('invalid', `${showPath(place.parts)} is a file, not a folder`);
  return false;
}

/** Makes a folder and what is missing above it. @returns how many of the last parts are new. @throws PluginError */
export async function makeFolder({ session, parts }: SharePath): Promise<number> {
  let there = parts.length;
  while (there > 0 && !(await look({ session, parts: parts.slice(0, there) }))?.folder) there--;
  let made = 0;
  for (let depth = there + 1; depth <= parts.length; depth++) {
    try {
      made = (await makeOne({ session, parts: parts.slice(0, depth) })) ? made + 1 : 0;
    } catch (error) {
      await unmakeFolder({ session, parts: parts.slice(0, depth - 1) }, made);
      throw error;
    }
  }
  return made;
}

/** Removes the last `made` folders as far as they are empty, for a put that failed. */
export async function unmakeFolder({ session, parts }: SharePath, made: number): Promise<void> {
  for (let depth = parts.length; depth > parts.length - made; depth--) {
    const { status } = await session.run(`rmdir ${quote(parts.slice(0, depth))}`);
    if (status !== undefined) return; // somebody else uses it by now
  }
}

/** The numbers that follow a listing. @throws PluginError */
export async function space(place: SharePath): Promise<{ total: number; free: number } | undefined> {
  for (const command of place.parts.length === 0 ? ['ls'] : [`ls ${quote(place.parts)}`, 'ls']) {
    const { output, status } = await place.session.run(command);
    const [, blocks, size, free] = /(\d+) blocks of size (\d+)\. (\d+) blocks available/.exec(output) ?? [];
    if (blocks !== undefined) return { total: Number(blocks) * Number(size), free: Number(free) * Number(size) };
    if (status !== undefined && !isAbsent(status)) throw failed(place, status);
  }
  return undefined;
}
