import { open, rename } from 'node:fs/promises';

/** fsyncs a folder, so that its names survive a power cut. */
export async function syncFolder(path: string | Buffer): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Write, fsync, rename, fsync the folder: after a power cut the file is wholly old or wholly new.
 *  @param partName name of the file until the rename; a crash may leave it */
export async function writeDurably(folder: string, name: string, content: string, partName: string): Promise<void> {
  const part = `${folder}/${partName}`;
  const file = await open(part, 'w', 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(part, `${folder}/${name}`);
  await syncFolder(folder);
}
