import type { ContainerState } from '../../../../core/contract/index.js';
import { type Journal as Common, Journals, type PlaceUser } from '../../../shared/swap/index.js';
import type { Tools } from '../tools.js';

/** What LXC adds to the journal of a restore. */
export interface Own {
  readonly action: 'create' | 'replace';
  /** State of the replaced container before the swap. */
  former: ContainerState;
}

export type Journal = Common<Own>;

const states: readonly ContainerState[] = ['running', 'frozen', 'stopped'];

/** LXC's journals, in the plugin's folder. */
export function openJournals(folder: string): Journals<Own> {
  return new Journals<Own>(folder, ({ action, former }) => {
    const state = states.find((one) => one === former);
    return state && (action === 'create' || action === 'replace') ? { action, former: state } : undefined;
  });
}

/** What reverting and finishing a swap needs. */
export interface SwapDeps {
  readonly tools: Tools;
  readonly journals: Journals<Own>;
  users(except: string): Promise<readonly PlaceUser[]>;
}
