/** The child process that opens a database before the service does: probing.js read|repair FOLDER. */
import { Level } from './db.js';

async function read(folder: string): Promise<void> {
  const level = await Level.open(folder, { probed: true });
  await level.read();
  await level.close();
}

const [, , verb, folder = ''] = process.argv;
await (verb === 'repair' ? Level.repair(folder) : read(folder)).catch(() => undefined); // the service gets the same error when it opens it
