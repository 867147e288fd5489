// Prints when schedules are due by the library that the CronJob controller of Kubernetes uses, one case a line:
//
//	zone <tab> five fields <tab> after <tab> the next times, by blanks; - for none
//
// The output is kept as crds/tests/cron_times.tsv (make it anew with: cd tests/env/cron && go run . > ../../../crds/tests/cron_times.tsv).
package main

import (
	"bufio"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"time"
	_ "time/tzdata"

	"github.com/robfig/cron/v3"
)

// How many times of each case.
const times = 4

// Zones whose clocks leap at midnight, by half an hour, westwards and eastwards, in either half of the year, or never.
var zones = []string{
	"UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "Africa/Cairo", "Asia/Beirut",
	"America/Havana", "America/Santiago", "America/Asuncion", "Australia/Lord_Howe", "Australia/Sydney", "Asia/Kathmandu",
	"Pacific/Chatham", "Africa/Casablanca", "America/Scoresbysund", "Asia/Gaza",
}

// Schedules that people write, and those whose meaning is not obvious.
var schedules = []string{
	"* * * * *", "*/15 * * * *", "5 * * * *", "0 * * * *", "30 * * * *", "0 0 * * *", "30 0 * * *", "0 1 * * *", "30 1 * * *",
	"0 2 * * *", "30 2 * * *", "0 3 * * *", "15 23 * * *", "0 */2 * * *", "0 */3 * * *", "30 */6 * * *", "0 0 */1 * 1", "0 0 */2 * 1",
	"0 0 * * 1", "0 0 * * 5", "0 12 * * 5", "0 0 1 * *", "0 0 ? * 0", "0 0 15 * 3", "0 0 1-7 * */1", "0 0 1-7 * 1", "0 5 24 4 *", "0 5 23 4 *",
	"0 0 31 * *", "0 0 29 2 *", "0 0 29 2 */1", "0 22 * * 1-5", "10-20/5 8-18 * * 1-5", "40/10 3 * * *", "0 0 1 1 *", "0 0 1 jan,jul *", "0 1 * * sun",
	"59 23 31 12 *", "0 2 * 3 0", "0 0 8 3 *", "1,31 0,1,2,3 * * *", "*/7 */5 */3 * *", "*/1 */1 */1 */1 */1", "0 0 30 4,10 *",
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	random := rand.New(rand.NewSource(1))
	for _, name := range zones {
		zone, err := time.LoadLocation(name)
		if err != nil {
			panic(err)
		}
		// Around each change of the clocks of two years, and one quiet day: of the past, which no new database changes.
		starts := []time.Time{time.Date(2023, 2, 16, 14, 5, 30, 0, time.UTC)}
		for hour := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC); hour.Year() < 2025; hour = hour.Add(time.Hour) {
			_, before := hour.In(zone).Zone()
			_, after := hour.Add(time.Hour).In(zone).Zone()
			if before != after {
				starts = append(starts, hour.Add(-26*time.Hour), hour.Add(-90*time.Minute), hour.Add(30*time.Minute))
			}
		}
		for i, start := range starts {
			for _, fields := range schedules {
				if i > 0 && random.Intn(14) > 0 {
					continue
				}
				schedule, err := cron.ParseStandard("TZ=" + name + " " + fields)
				if err != nil {
					panic(err)
				}
				var found []string
				at := start
				for len(found) < times {
					at = schedule.Next(at)
					if at.IsZero() || at.Year() > 2025 {
						break
					}
					found = append(found, at.UTC().Format("2006-01-02T15:04Z"))
				}
				if len(found) == 0 {
					found = []string{"-"}
				}
				fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", name, fields, start.Format("2006-01-02T15:04:05Z"), strings.Join(found, " "))
			}
		}
	}
}
