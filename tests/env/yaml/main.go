// Prints what kubectl makes of plain words before it sends a manifest, by the library that it uses:
//
//	word <tab> JSON of it as a value <tab> JSON of it as the name of a field, or - where it cannot be one
//
// The output is kept as crds/tests/yaml_words.tsv (make it anew with: cd tests/env/yaml && go run . > ../../../crds/tests/yaml_words.tsv).
package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

const words = `
y Y yes Yes YES yEs n N no No NO nO on On ON oN off Off OFF oFF true True TRUE tRUE false False FALSE t f
~ null Null NULL nULL none nil NaN nan .nan .NaN .NAN .Nan .inf .Inf .INF +.inf -.inf -.Inf +.Inf inf Infinity -inf
0 1 -1 +1 -0 +0 00 01 07 08 09 010 0100 -010 +010 0o7 0o10 -0o7 0O7 0o8 0o 0x1F 0X1f -0xff +0xff 0x 0xg 0b11 0B11 -0b11 +0b1 0b2 0b
1_000 1__0 1_ _1 -1_0 0x_1F 0x1_F 0_7 0b1_1 1_000.5 1_0e3 1_e3 ._5 1._5
9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616
100000000000000000000000000000000 0x7fffffffffffffff 0xffffffffffffffff 0x10000000000000000 9007199254740993
1.0 1.5 -1.5 +1.5 .5 -.5 +.5 5. -5. 1.50 1e3 1E3 1e+3 1e-3 -1e3 1.5e3 .5e1 5.e1 1e 1e+ e3 1.e 1.5.0 1e400 -1e400 1e-400 1e21 1e20 123456789.125 0.1 0.30000000000000004 1e15 1e-7 1e-6 0x1p4 0x1.8p1 1f
00.5 08.5 010.5 0e0 -0.0 0.0
1:30 190:20:30 12:30:45 1:2.5 2026-01-01 2026-1-1 2026-01-01T00:00:00Z 2026-01-01T00:00:00 20260101 1d 30s 5m 1.2.3 1,000 1Gi 100m
= - -- . .. + +- / y1 1y yes! no. #x a#b @x x@y $x ${x} %x x% a:b :a ?a -a --a *.x a*b /a a/b <a >=1 v1 _ __ _a a_b é 😀
`

func main() {
	for _, word := range strings.Fields(words) {
		value := "-"
		if read, err := yaml.YAMLToJSON([]byte("a: " + word + "\n")); err == nil {
			var object map[string]json.RawMessage
			if json.Unmarshal(read, &object) == nil && len(object) == 1 && object["a"] != nil {
				value = string(object["a"])
			}
		}
		name := "-"
		if read, err := yaml.YAMLToJSON([]byte(word + ": x\n")); err == nil {
			var object map[string]string
			if json.Unmarshal(read, &object) == nil && len(object) == 1 {
				for key := range object {
					text, _ := json.Marshal(key)
					name = string(text)
				}
			}
		}
		fmt.Printf("%s\t%s\t%s\n", word, value, name)
	}
}
