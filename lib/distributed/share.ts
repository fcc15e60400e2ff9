// What of a step's work is whose.

/** Where rank `rank`'s part of `count` things begins; its end is where the next one's begins. */
export const startOf = (count: number, rank: number, worldSize: number): number => Math.floor((count * rank) / worldSize);

/** This rank's part of a list, in order. */
export function shareOf<T>(all: readonly T[], { rank, worldSize }: { rank: number; worldSize: number }): T[] {
  return all.slice(startOf(all.length, rank, worldSize), startOf(all.length, rank + 1, worldSize));
}

/** Consecutive parts of about equal cost: where each rank's begins (worldSize + 1 numbers). A thing belongs where its middle lies. */
export function fairCuts(costs: readonly number[], worldSize: number): number[] {
  const total = costs.reduce((a, b) => a + b, 0);
  const cuts = [0];
  let before = 0;
  costs.forEach((cost, i) => {
    const owner = total === 0 ? 0 : Math.min(worldSize - 1, Math.floor(((before + cost / 2) / total) * worldSize));
    while (cuts.length <= owner) cuts.push(i);
    before += cost;
  });
  while (cuts.length <= worldSize) cuts.push(costs.length);
  return cuts;
}

/** This rank's stretch of a list, of about the cost of each other rank's. */
export function ownStretch<T>(all: readonly T[], cost: (item: T) => number, ranks: { rank: number; worldSize: number }): T[] {
  const cuts = fairCuts(all.map(cost), ranks.worldSize);
  return all.slice(cuts[ranks.rank], cuts[ranks.rank + 1]);
}
