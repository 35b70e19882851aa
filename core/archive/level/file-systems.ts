/** Which file system a folder is on. A level is told from its base by names, inode numbers and times, and two disks that take
 *  turns at one place may have all of these alike. */
import { PluginError } from '../../contract/index.js';
import { childOutcome } from '../../primitives/child.js';

/** What statfs gives as its id names the disk, and of btrfs the subvolume, but for XFS, which gives the number of the device. */
async function identityOf(path: string, type: string, id: string, signal: AbortSignal): Promise<string> {
  if (type !== 'xfs') return `${type} ${id}`;
  const { stdout } = await childOutcome('findmnt', ['-n', '-o', 'UUID', '-T', path], signal);
  return `${type} ${stdout.trim() || id}`;
}

/** How many paths one child looks at: its answer is a line for each. */
const atOnce = 500;

/** An identity for each of the paths, the same as long as the same file system is there. @throws PluginError io */
export async function fileSystemsOf(paths: readonly string[], signal: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  for (let at = 0; at < paths.length; at += atOnce) {
    const some = paths.slice(at, at + atOnce);
    const { code, stdout, stderr } = await childOutcome('stat', ['-f', '-c', '%T\t%i', '--', ...some], signal);
    const lines = stdout.split('\n').slice(0, -1);
    if (code !== 0 || lines.length !== some.length)
      throw new PluginError('io', `the file systems of the container could not be told: ${stderr.trim()}`, { retryable: true });
    for (const [index, line] of lines.entries()) {
      const [type = '', id = ''] = line.split('\t');
      found.push(await identityOf(some[index] ?? '', type, id, signal));
    }
  }
  return found;
}
