/** The service and all its children stay within 256 MiB on each remote target too. `make campaign-large` moves 20 GB each way. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { pointsOf } from '../../support/depth.js';
import { remoteKinds, startRemote } from '../../support/servers/remotes.js';
import { backUp, installGenerated, measured, newJob, restoreGenerated } from './bench.js';

const { remoteMebibytes: mebibytes } = pointsOf('large');

/** Samples the staged files. @returns the highest number at a time */
function stagingWatch(stateFolder: string): { most(): number } {
  let most = 0;
  const folder = join(stateFolder, 'plugin-state/rsync');
  const timer = setInterval(() => {
    try {
      const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
      most = Math.max(most, files.length);
    } catch {
      // the folder was removed meanwhile: the next sample counts
    }
  }, 20);
  return {
    most() {
      clearInterval(timer);
      return most;
    },
  };
}

for (const kind of remoteKinds) {
  t.test(`${kind}: ${mebibytes} MiB are backed up uncompressed and restored within the limit`, async (t) => {
    const bed = await startRemote(t, kind);
    const a = await makeAppliance(t);
    await installGenerated(a);
    const profile = Number(
      part(await a.service.call('POST', '/target', { ...bed.body, ...(kind === 'rsync' && largePieces(bed.body)) }), 'id'),
    );
    const location = { target: 'remote', profile, path: bed.path } as const;
    const name = `generated-${mebibytes}`;
    const id = await newJob(a, 'generated', name, [], { location });
    const staging = stagingWatch(a.stateFolder);
    const { bytes } = await measured(t, a, `${kind}, backup`, () => backUp(a, id));
    t.ok(Number(bytes) >= mebibytes * 2 ** 20, `${bytes} bytes were stored`);
    await measured(t, a, `${kind}, restore`, () => restoreGenerated(a, name, location));
    const most = staging.most();
    t.ok(most <= 3, `${most} files of the plugin's at a time: two pieces and the file of its bridge at most`);
    if (kind === 'rsync') t.ok(most >= 1, 'they were seen');
  });
}

/** Options without the bed's small pieces, so that pieces have the default size. */
function largePieces(body: Readonly<Record<string, unknown>>): object {
  return { options: { privateKey: part(body.options, 'privateKey') } };
}
