/** Rights over the host are granted, not inherited: whoever can write to a target can write a manifest. What this appliance
 *  sealed is restored as it was; for anything else a client has to send the digest of the rights that the plan lists. */
import { createHash } from 'node:crypto';
import { isOwnManifest, type Manifest, type Sealer } from '../archive/index.js';
import { type Grant, PluginError } from '../contract/index.js';
import { openVault } from '../secrets.js';

/** @throws Error when the appliance's key is damaged */
export async function openSealer(stateFolder: string): Promise<Sealer> {
  const vault = await openVault(stateFolder);
  return { appliance: vault.mac('', 'appliance').slice(0, 16), mac: (text) => vault.mac(text, 'manifest') };
}

export interface Asked {
  readonly grants: readonly Grant[];
  /** What a client must send as `consent`; undefined when nothing is asked. */
  readonly consent?: string;
}

/** @param grants of a plan that is made of this very manifest: nothing is read twice, so that what is asked for is what is built */
export function requestConsent(sealer: Sealer, grants: readonly Grant[], manifest: Manifest): Asked {
  if (grants.length === 0 || isOwnManifest(manifest, sealer)) return { grants };
  return { grants, consent: digestOf(manifest.container.type, grants) };
}

const shownGrants = 5;
const shownLength = 200;

/** @throws PluginError needs_consent */
export function requireConsent({ grants, consent }: Asked, given: string | undefined): void {
  if (consent === undefined || consent === given) return;
  const some = grants.slice(0, shownGrants).map(({ code, what }) => `${code} ${what}`.slice(0, shownLength));
  const more = grants.length > shownGrants ? ` and ${grants.length - shownGrants} more` : '';
  const why = given === undefined ? 'it was not backed up by this appliance' : 'the consent is for other rights';
  const fix = 'look at POST /restore/plan and send its consent';
  throw new PluginError('needs_consent', `the container would have rights over this host (${some.join('; ')}${more}) and ${why}: ${fix}`);
}

/** SHA-256 in hex over the engine and the rights, whatever order a plugin lists them in. */
function digestOf(type: string, grants: readonly Grant[]): string {
  const pairs = grants.map(({ code, what }) => JSON.stringify([code, what])).sort();
  return createHash('sha256')
    .update(JSON.stringify([type, ...pairs]))
    .digest('hex');
}
