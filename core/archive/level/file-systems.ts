/** Identifies the file system of a folder. tar compares a level with its base by names, inode numbers and times. Two disks mounted
 *  in turn at one path may agree in all of these. */
import { PluginError } from '../../contract/index.js';
import { childOutcome } from '../../primitives/child.js';

/** statfs's id identifies the disk, and on btrfs the subvolume. XFS gives the device number instead, so its UUID is used. */
async function identityOf(path: string, type: string, id: string, signal: AbortSignal): Promise<string> {
  if (type !== 'xfs') return `${type} ${id}`;
  const { stdout } = await childOutcome('findmnt', ['-n', '-o', 'UUID', '-T', path], signal);
  return `${type} ${stdout.trim() || id}`;
}

/** Paths for one child; its output is a line for each. */
const atOnce = 500;

/** An identity for each path; it changes when another file system is mounted there. @throws PluginError io */
export async function fileSystemsOf(paths: readonly string[], signal: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  for (let at = 0; at < paths.length; at += atOnce) {
    const some = paths.slice(at, at + atOnce);
    const { code, stdout, stderr } = await childOutcome('stat', ['-f', '-c', '%T\t%i', '--', ...some], signal);
    const lines = stdout.split('\n').slice(0, -1);
    if (code !== 0 || lines.length !== some.length)
      throw new PluginError('io', `the file systems of the container could not be identified: ${stderr.trim()}`, { retryable: true });
    for (const [index, line] of lines.entries()) {
      const [type = '', id = ''] = line.split('\t');
      found.push(await identityOf(some[index] ?? '', type, id, signal));
    }
  }
  return found;
}
