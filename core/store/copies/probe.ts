/** LevelDB reads its tables without looking at their checksums, and some damage ends the whole process (an assertion, a wild read).
 *  So a process of its own reads a database first. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** Damage may also make it read for ever. */
const limitMs = 120_000;

const script = fileURLToPath(new URL('./probing.js', import.meta.url));

/** Reads a database from its begin to its end, or has LevelDB repair it. What LevelDB says of damage is not told here: whoever opens
 *  the database next is told the same. @throws Error when LevelDB does not survive it */
export async function surviveLevel(verb: 'read' | 'repair', folder: string): Promise<void> {
  const args = ['--pdeathsig', 'KILL', '--', process.execPath, script, verb, folder];
  const child = spawn('setpriv', args, { stdio: 'ignore', timeout: limitMs, killSignal: 'SIGKILL' });
  const [, signal]: unknown[] = await once(child, 'exit');
  if (typeof signal === 'string') throw new Error(`LevelDB ends with ${signal} as it reads it`);
}
