/** Others make and remove LXC containers while all of them are looked at. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import plugin from '../../plugins/runtimes/lxc/index.js';
import { planOf } from '../conformance/runtime/index.js';
import { destroyLxc, makeLxcContainer, makeLxcPath } from '../support/lxc.js';

const { signal } = new AbortController();

t.test('a container removed at that moment does not disturb another one', async (t) => {
  const path = await makeLxcPath();
  t.teardown(async () => {
    for (const name of await readdir(path)) await destroyLxc(path, name);
    await rm(path, { force: true, recursive: true });
  });
  await mkdir(join(path, 'stays/shared'), { recursive: true });
  await makeLxcContainer(path, 'stays', { lines: [`lxc.mount.entry = ${path}/stays/shared srv none bind,create=dir 0 0`] });
  await using runtime = await plugin.open({ log: () => undefined, options: { path }, signal, stateFolder: path });
  const description = await runtime.describe('stays');
  const plan = planOf({ description, sources: await runtime.sources('stays'), image: undefined, archives: '' }, 'copy', 'create');
  let ended = false;
  const others = (async () => {
    for (let n = 0; !ended; n++) {
      const folder = join(path, `goes-${n % 5}`);
      await mkdir(folder);
      await writeFile(join(folder, 'config'), `lxc.rootfs.path = dir:${folder}\nlxc.mount.entry = /srv srv none bind 0 0\n`);
      if (n > 2) await rm(join(path, `goes-${(n - 3) % 5}`), { recursive: true });
    }
  })();
  for (let n = 0; n < 15; n++) await runtime.preview(plan, { shares: [] });
  ended = true;
  await t.resolves(others);
});
