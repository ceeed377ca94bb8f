/** The middle value; of an even number of values the mean of the two in the middle. @throws Error for no values */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  const upper = sorted[sorted.length >> 1];
  const lower = sorted[(sorted.length - 1) >> 1];
  if (upper === undefined || lower === undefined) throw new Error('no values to take the median of');
  return (upper + lower) / 2;
}

/** The median of the ratios between measurements that were made one after the other. */
export function medianRatio<Sample>(
  samples: readonly Sample[],
  others: readonly Sample[],
  value: (sample: Sample) => number,
): number {
  const ratios = samples.flatMap((sample, index) => {
    const other = others[index % others.length];
    return other === undefined ? [] : [value(sample) / value(other)];
  });
  return median(ratios);
}
