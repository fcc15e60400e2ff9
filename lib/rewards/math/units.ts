// Units of measure: an answer may leave its unit out; a different one is a different answer.

const MEASURES: Record<string, string> = {
  'cm,centimeter,centimetre': 'cm',
  'mm,millimeter,millimetre': 'mm',
  'km,kilometer,kilometre': 'km',
  'm,meter,metre': 'm',
  'in,inch,inches': 'in',
  'ft,foot,feet': 'ft',
  'yd,yard': 'yd',
  'mi,mile': 'mi',
  'mg,milligram': 'mg',
  'kg,kilogram': 'kg',
  'g,gram': 'g',
  'lb,pound': 'lb',
  'oz,ounce': 'oz',
  'ml,milliliter,millilitre': 'ml',
  'l,liter,litre': 'l',
  's,sec,second': 's',
  'min,minute': 'min',
  'h,hr,hour': 'h',
  day: 'day',
  week: 'week',
  month: 'month',
  'yr,year': 'year',
  'cent,cents,¢': 'cent',
  '$,dollar,usd': '$',
  '€,euro,eur': '€',
  '£,gbp': '£',
  '°,degree,deg': '°',
  'rad,radian': 'rad',
  mph: 'mi/h',
  kph: 'km/h',
};

const KNOWN = new Map(Object.entries(MEASURES).flatMap(([names, unit]) => names.split(',').map((name) => [name, unit] as const)));

/** A word of two letters or more that is a unit: it is no product of variables. */
export const isUnitWord = (word: string): boolean => word.length > 1 && lookUp(word) !== undefined;

function lookUp(word: string): string | undefined {
  const plain = word.toLowerCase();
  return KNOWN.get(plain) ?? (plain.endsWith('s') ? KNOWN.get(plain.slice(0, -1)) : undefined);
}

/**
 * One spelling for a unit ("square centimeters" and "cm^2" are cm^2, "miles per hour" is mi/h); undefined for what is no measure
 * ("apples"), which then does not count.
 */
export function canonicalUnit(text: string): string | undefined {
  let power = '';
  let known = false;
  const parts: string[] = [];
  for (const word of text.toLowerCase().split(/[^\p{L}\p{N}$€£°¢/^]+|(?=[/^])|(?<=[/^])/u)) {
    if (word === '' || word === '^') continue;
    if (word === 'square' || word === 'sq') power = '^2';
    else if (word === 'cubic' || word === 'cu') power = '^3';
    else if (word === 'per' || word === '/') parts.push('/');
    else if (/^\d+$/.test(word)) parts.push(`^${word}`);
    else {
      const unit = lookUp(word);
      known ||= unit !== undefined;
      parts.push((unit ?? word) + power);
      power = '';
    }
  }
  return known ? parts.join('') : undefined;
}
