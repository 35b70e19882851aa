import { open, rename } from 'node:fs/promises';

/** Makes the folder's names outlast a power cut. */
export async function syncFolder(path: string | Buffer): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The file is wholly old or wholly new after a power cut. @param partName what is written first; a crash may leave it */
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
