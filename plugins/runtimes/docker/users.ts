/** Which containers mount which folders of the host. */
import { neighbourUsers } from '../../shared/neighbours.js';
import { realPath } from '../../shared/presence.js';
import type { PlaceUser } from '../../shared/swap/index.js';
import type { Client } from './engine/client.js';
import { engine } from './engine/engine.js';
import { isHidden, nameOf, stateInList } from './engine/inspect.js';
import { fields, items, text } from './engine/json.js';

/** All mounts of all containers but `except`, other engines' too. Containers that a restore moved aside do not count. */
export async function dockerUsers(client: Client, except: string): Promise<readonly PlaceUser[]> {
  const users: PlaceUser[] = [];
  const devices = await engine.volumeDevices(client);
  const rows = await engine.containers(client);
  const own = new Set(rows.map((row) => text(row.Id)));
  for (const row of rows) {
    const container = nameOf(row);
    if (container === except || isHidden(container)) continue;
    const running = stateInList(row.State) !== 'stopped';
    for (const mount of items(row.Mounts).map(fields)) {
      const path = devices.get(text(mount.Name)) ?? text(mount.Source);
      if (path.startsWith('/')) users.push({ container, running, path: await realPath(path) });
    }
  }
  return [...users, ...(await neighbourUsers(({ engine: name, id }) => name === 'docker' && own.has(id)))];
}
