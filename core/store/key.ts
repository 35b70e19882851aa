/** The appliance's key and the rows that depend on it. A lost key is logged, never replaced silently. */
import { join } from 'node:path';
import type { PluginLog } from '../contract/index.js';
import { isFields } from '../primitives/guards.js';
import { keyState, makeKey, openVault, type Vault } from '../secrets.js';
import type { Database } from './copies/database.js';
import { setAside } from './copies/state.js';

/** Row with the key's public id, by which another key is noticed. */
const checkKey = 'key/check';

function knownKey(db: Database): unknown {
  const row = db.get(checkKey);
  const value: unknown = row && JSON.parse(row.text);
  return isFields(value) ? value.appliance : undefined;
}

const cost =
  'set the passwords of all targets again; restores of backups that were made under the old key ask for consent to rights over this host';

/** Opens the key, or makes one where there is none. */
export async function openKey(folder: string, db: Database, log: PluginLog): Promise<Vault> {
  const state = await keyState(folder);
  const known = knownKey(db);
  const isNew = known === undefined && db.list('user').length === 0;
  if (state === 'damaged')
    log('warn', `secret.key is damaged; it was set aside as ${await setAside(join(folder, 'secret.key'), 'damaged')}`);
  if (state !== 'kept') {
    if (!isNew)
      log('warn', `secret.key is ${state === 'missing' ? 'lost' : 'damaged'}, and a new key is made. Put the old file back, or ${cost}`);
    await makeKey(folder);
  }
  const vault = await openVault(folder);
  const appliance = vault.mac('', 'appliance');
  if (known === appliance) return vault;
  if (known !== undefined && state === 'kept')
    log('warn', `secret.key is not the key that this state was written with. Put that key back, or ${cost}`);
  await db.write([{ type: 'put', key: checkKey, value: { v: 1, appliance } }], 'reserve');
  return vault;
}
