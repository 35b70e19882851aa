/** writer.js FOLDER SEED: a process that writes to a state like a service, and prints each write right after its acknowledgement. The
 *  suite kills it or cuts its power. */
import { writeSync } from 'node:fs';
import { openStore } from '../../../core/store/index.js';
import { backupNamed } from './bed.js';

/** An acknowledged write of one line. `state` is undefined for a deleted job. */
export interface Acknowledged {
  readonly id: number;
  readonly bytes?: number;
  readonly deleted?: true;
}

const say = (line: Acknowledged) => void writeSync(1, `${JSON.stringify(line)}\n`);

/** Makes, runs, changes and deletes jobs, several at a time, with leases and logins between. */
async function writeOn(folder: string, seed: number): Promise<never> {
  const store = await openStore(folder);
  say({ id: 0 });
  const lane = async (number: number): Promise<never> => {
    for (let step = seed; ; step++) {
      const { id } = await store.backup.create(backupNamed(`job-${number}-${step}`), { code: 'init' });
      say({ id });
      await store.leases.put({ runtime: 'lxc', container: `c-${number}`, until: step });
      const bytes = number * 1_000_000 + step;
      await store.backup.put({ id, spec: backupNamed(`job-${number}-${step}`), state: { code: 'scheduled', result: 0, bytes } });
      say({ id, bytes });
      await store.sessions.create({ username: 'u', isAdmin: true }, 1);
      await store.leases.delete('lxc', `c-${number}`);
      if (step % 3 !== 0) continue;
      await store.backup.delete(id);
      say({ id, deleted: true });
    }
  };
  return Promise.race([1, 2, 3].map(lane));
}

// After a power cut the disk refuses writes until the process is killed.
if (process.argv[2] !== undefined) await writeOn(process.argv[2], Number(process.argv[3])).catch(() => process.exit(1));
